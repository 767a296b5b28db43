"""Memories: exact panes, resumable state, one shared list of checks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsketch.errors import ConfigError
from streamsketch.privacy.memory import MEMORIES, make_memory

PANES = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), st.integers(0, 1000)), min_size=1, max_size=12
)
SLOW = {  # the definition: what panes p (oldest first) amount to
    "landmark": lambda p: sum(p),
    "decayed": lambda p: sum(0.9 ** (len(p) - 1 - i) * v for i, v in enumerate(p)),
    "tumbling": lambda p: p[-1],
    "sliding": lambda p: sum(p[-10:]),
}


@pytest.mark.parametrize("name", MEMORIES)
@given(panes=PANES)
def test_the_value_is_what_the_definition_says(name, panes):
    memory = make_memory(name)
    for k, (total, count) in enumerate(panes):
        value, weight = memory.update(np.array([total]), count)
        expected = SLOW[name]([t for t, _ in panes[: k + 1]])
        if name == "decayed":
            assert value[0] == pytest.approx(expected, rel=1e-12, abs=1e-3)
        else:
            assert value[0] == expected
        assert weight == pytest.approx(SLOW[name]([c for _, c in panes[: k + 1]]))


@pytest.mark.parametrize("name", MEMORIES)
@given(panes=PANES, cut=st.integers(0, 12))
def test_resuming_goes_on_to_the_bit(name, panes, cut):
    straight, first, second = make_memory(name), make_memory(name), make_memory(name)
    expected = [straight.update(np.array([t]), c) for t, c in panes]
    for total, count in panes[:cut]:
        first.update(np.array([total]), count)
    second.restore(*first.state())
    for (total, count), (value, weight) in zip(panes[cut:], expected[cut:], strict=True):
        again, again_weight = second.update(np.array([total]), count)
        assert (again == value).all() and again_weight == weight


@pytest.mark.parametrize(
    "text", ["never", "decayed:1.5", "decayed:x", "sliding:0", "sliding:2.5", "landmark:3"]
)
def test_a_wrong_memory_is_refused(text):
    with pytest.raises(ConfigError, match="memory"):
        make_memory(text)
