"""Masks cancel to the last bit, and hide what they cover."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch import FeatureMap
from streamsketch.errors import ConfigError, DamagedFileError, DataError, SpecMismatchError
from streamsketch.federated import Masked, Site, unmask
from streamsketch.sketch import Sketch

FM = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, 16)))


def sites(names: list[str], seed: int = 0) -> dict[str, Site]:
    rng = np.random.default_rng(seed)
    shared = {frozenset(pair): rng.bytes(32) for pair in combinations(names, 2)}
    return {a: Site(a, {b: shared[frozenset((a, b))] for b in names if b != a}) for a in names}


def sketches(names: list[str], seed: int = 1) -> dict[str, Sketch]:
    rng = np.random.default_rng(seed)
    made = {}
    for k, name in enumerate(names):
        made[name] = Sketch.zero(FM)
        made[name].update(FM, rng.normal(size=(10 * k + 1, 2)))
    return made


def added(some: list[Sketch]) -> Sketch:
    total = Sketch.zero(FM)
    for one in some:
        total = total.merge(one)
    return total


@given(st.integers(2, 6), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_masks_cancel_to_the_last_bit(n: int, seed: int) -> None:
    names = [f"site {k}" for k in range(n)]
    masking, mine = sites(names, seed), sketches(names, seed)
    sent = [masking[name].mask(mine[name], "r") for name in reversed(names)]
    sent = [Masked.from_bytes(m.to_bytes()) for m in sent]
    total, expected = unmask(sent), added(list(mine.values()))
    assert total.total.tolist() == expected.total.tolist() and total.count == expected.count


def test_what_a_site_sends_looks_uniform_and_differs_from_round_to_round() -> None:
    names = ["a", "b"]
    big = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, 4000)))
    mine = Sketch.zero(big)
    mine.update(big, np.zeros((5, 2)))
    one = sites(names)["a"].mask(mine, "1").values
    two = sites(names)["a"].mask(mine, "2").values
    for values in (one, two, one - two):
        bits = np.unpackbits(values.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits))


def test_a_site_that_dropped_out_is_named_then_its_masks_are_taken_off() -> None:
    names = ["a", "b", "c", "d"]
    masking, mine = sites(names), sketches(names)
    sent = [masking[n].mask(mine[n], "r") for n in ("a", "c", "d")]
    with pytest.raises(DataError, match="'b' sent nothing in round 'r'"):
        unmask(sent)
    revealed = {n: masking[n].reveal("r", ["b"]) for n in ("a", "c")}
    with pytest.raises(DataError, match="lacking: 'd'"):
        unmask(sent, revealed)
    revealed["d"] = masking["d"].reveal("r", ["b"])
    total = unmask(sent, revealed)
    assert total.total.tolist() == added([mine[n] for n in ("a", "c", "d")]).total.tolist()


def test_revealed_keys_open_one_round_only() -> None:
    names = ["a", "b", "c"]
    masking, mine = sites(names), sketches(names)
    sent = [masking[n].mask(mine[n], "2") for n in ("a", "c")]
    revealed = {n: masking[n].reveal("1", ["b"]) for n in ("a", "c")}
    wrong = unmask(sent, revealed)
    assert wrong.total.tolist() != added([mine["a"], mine["c"]]).total.tolist()


def test_wrong_calls() -> None:
    masking, mine = sites(["a", "b"]), sketches(["a", "b"])
    sent = [masking[n].mask(mine[n], "r") for n in ("a", "b")]
    with pytest.raises(ConfigError, match="nothing was sent"):
        unmask([])
    with pytest.raises(DataError, match="twice"):
        unmask([sent[0], sent[0]])
    with pytest.raises(ConfigError, match="masks cancel within one round"):
        unmask([sent[0], masking["b"].mask(mine["b"], "s")])
    other = Sketch.zero(FeatureMap.from_frequencies(np.ones((2, 16))))
    with pytest.raises(SpecMismatchError):
        unmask([sent[0], masking["b"].mask(other, "r")])
    with pytest.raises(ConfigError, match="32 random"):
        Site("a", {"b": b"short"})
    with pytest.raises(ConfigError, match="at least one"):
        Site("a", {})
    with pytest.raises(ConfigError, match="no sites"):
        masking["a"].reveal("r", ["z"])
    with pytest.raises(DamagedFileError):
        Masked.from_bytes(sent[0].to_bytes()[:-1])
