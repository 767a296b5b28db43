"""Memories: exact panes, resumable state, one shared list of checks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsketch.errors import ConfigError
from streamsketch.privacy.memory import MEMORIES, Held, make_memory

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
    memory, held = make_memory(name), Held()
    for k, (total, count) in enumerate(panes):
        held = memory.after(held, np.array([total]), count)
        value, weight = memory.value(held)
        expected = SLOW[name]([t for t, _ in panes[: k + 1]])
        if name == "decayed":
            assert value[0] == pytest.approx(expected, rel=1e-12, abs=1e-3)
        else:
            assert value[0] == expected
        assert weight == pytest.approx(SLOW[name]([c for _, c in panes[: k + 1]]))


@pytest.mark.parametrize("name", MEMORIES)
@given(panes=PANES, cut=st.integers(0, 12))
def test_resuming_goes_on_to_the_bit(name, panes, cut):
    memory, held = make_memory(name), Held()
    expected, after = [], []
    for total, count in panes:
        after.append(held)
        held = memory.after(held, np.array([total]), count)
        expected.append(memory.value(held))
    held = memory.unpacked(*memory.packed([*after, held][min(cut, len(panes))]))
    for (total, count), (value, weight) in zip(panes[cut:], expected[cut:], strict=True):
        held = memory.after(held, np.array([total]), count)
        again, again_weight = memory.value(held)
        assert (again == value).all() and again_weight == weight


@pytest.mark.parametrize(
    ("name", "arrays", "numbers"),
    [
        ("landmark", {"total": np.zeros((2, 2))}, {"count": 1}),
        ("landmark", {"total": np.zeros(2, np.float32)}, {"count": 1}),
        ("decayed", {"total": np.array([np.nan])}, {"count": 1}),
        ("decayed", {}, {"count": float("nan")}),
        ("sliding", {"totals": np.zeros((2, 2))}, {"counts": [1]}),
        ("sliding", {"totals": np.zeros((11, 2))}, {"counts": [1] * 11}),
        ("sliding", {}, {"counts": ["1"]}),
    ],
)
def test_what_no_memory_holds_is_refused(name, arrays, numbers):
    with pytest.raises((ValueError, TypeError)):
        make_memory(name).unpacked(arrays, numbers)


@pytest.mark.parametrize(
    "text", ["never", "decayed:1.5", "decayed:x", "sliding:0", "sliding:2.5", "landmark:3"]
)
def test_a_wrong_memory_is_refused(text):
    with pytest.raises(ConfigError, match="memory"):
        make_memory(text)
