"""The bound that the noise is computed from holds for the arithmetic that is used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamsketch.features import FeatureMap
from streamsketch.features.frequencies import LAWS
from streamsketch.features.kernels import BACKENDS
from streamsketch.features.spec import Spec

RNG = np.random.default_rng(3)
D = 16  # the least that the Hadamard backend takes
WIDE = FeatureMap.from_frequencies(RNG.normal(size=(D, 64)) * np.geomspace(0.1, 300, 64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_row_exceeds_the_bound(backend):
    """Structured backends serve the law of their name, the others any frequencies."""
    if backend == "triton":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("triton needs a GPU; its interpreter is tested in tests/kernels")
    fm = FeatureMap.from_spec(Spec(backend, D, 64, 0.05)) if backend in LAWS else WIDE
    bound = fm.norm_bound * 65536

    def norm(row):
        return np.linalg.norm(fm.sum(row[None].astype(np.float32), backend=backend).astype(float))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float32, D, elements=st.floats(-1e6, 1e6, width=32)))
    def check(row):
        assert norm(row) <= bound

    check()
    rows = np.concatenate([RNG.normal(size=(300, D)), 10.0 ** RNG.uniform(-30, 5, (200, D))])
    assert max(norm(row) for row in rows) <= bound
