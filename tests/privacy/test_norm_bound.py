"""The bound that the noise is computed from holds for the arithmetic that is used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamsketch.features import FeatureMap
from streamsketch.kernels import BACKENDS

RNG = np.random.default_rng(3)
FM = FeatureMap.from_frequencies(RNG.normal(size=(4, 64)) * np.geomspace(0.1, 300, 64))
CIRCLE = FeatureMap.from_frequencies(np.linspace(0, 2 * np.pi, 256)[None])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_row_exceeds_the_bound(backend):
    bound = FM.norm_bound * 65536

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(hnp.arrays(np.float32, 4, elements=st.floats(-1e6, 1e6, width=32)))
    def check(row):
        assert np.linalg.norm(FM.sum(row[None], backend=backend).astype(float)) <= bound

    check()
    for row in np.concatenate([RNG.normal(size=(300, 4)), 10.0 ** RNG.uniform(-30, 5, (200, 4))]):
        assert np.linalg.norm(FM.sum(row[None].astype(np.float32), backend=backend)) <= bound
    # Aligned phases are where truncation and rounding show most.
    one = CIRCLE.sum(np.ones((1, 1), np.float32), backend=backend).astype(float)
    assert np.linalg.norm(one) <= CIRCLE.norm_bound * 65536
