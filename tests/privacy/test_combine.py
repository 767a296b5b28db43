"""Combining keeps the weakest promise or refuses: all pairs of promises, in both orders."""

from itertools import permutations, product

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher, Snapshot
from streamsketch.errors import ConfigError, PrivacyError, SpecMismatchError
from streamsketch.privacy.combine import average, overlap

SCHEMA = Schema.vectors(2, -1, 1)
POINTS = np.random.default_rng(0).uniform(-1, 1, (500, 2))
PRIVATE = {"rho": 1e-3, "releases": 5}
PROMISES = {
    "public": {},
    "public, sliding": {"memory": "sliding:3"},
    "private": {"mechanism": "toeplitz", "privacy": PRIVATE},
    "more budget": {"mechanism": "toeplitz", "privacy": {**PRIVATE, "rho": 8.0}},
    "replace one": {"mechanism": "toeplitz", "privacy": {**PRIVATE, "adjacency": "replace_one"}},
    "strict": {"mechanism": "toeplitz", "privacy": {**PRIVATE, "strict": True}},
    "another delta": {"mechanism": "toeplitz", "privacy": {**PRIVATE, "delta": 1e-3}},
    "more releases": {"mechanism": "toeplitz", "privacy": {**PRIVATE, "releases": 9}},
    "one shot": {"mechanism": "gaussian", "privacy": {"rho": 1e-3, "releases": 1}},
}


def learned(promise: str) -> Sketcher:
    made = Sketcher(SCHEMA, frequencies=8, **PROMISES[promise])
    made.learn_many(POINTS)
    return made


@pytest.mark.parametrize(("left", "right"), list(permutations(PROMISES, 2)))
def test_sketchers_of_different_promises_are_refused_in_both_orders(left: str, right: str) -> None:
    a, b = learned(left), learned(right)
    with pytest.raises(ConfigError, match="promise different things"):
        a.merge(b)
    # and neither was retired by the attempt
    assert a.release().release.mechanism == a.releaser.mechanism
    assert b.release().release.mechanism == b.releaser.mechanism


@pytest.mark.parametrize("promise", PROMISES)
def test_sketchers_of_one_promise_keep_it(promise: str) -> None:
    a, b = learned(promise), learned(promise)
    both = a.merge(b)
    assert both.sketch.count == 1000
    made, alone = both.release().release, learned(promise).release().release
    for name in ("mechanism", "memory", "adjacency", "unit", "rho", "delta", "epsilon"):
        assert getattr(made, name) == getattr(alone, name)
    assert sorted(made.notes["origins"]) == sorted([*a.releaser.origins, *b.releaser.origins])
    if made.private:
        with pytest.raises(PrivacyError, match="merged into another"):
            a.release()


def test_rows_are_not_counted_twice() -> None:
    a, b = learned("public"), learned("public")
    with pytest.raises(ConfigError, match="count twice"):
        a.merge(a)
    both = a.merge(b)
    with pytest.raises(ConfigError, match="count twice"):
        both.merge(b)
    whole = both.release()
    with pytest.raises(ConfigError, match="count twice"):
        average(whole, a.release())
    assert average(whole, a.release(), allow_overlap=True).count == 1500
    with pytest.raises(ConfigError, match="count twice"):
        average(whole, Snapshot.from_bytes(whole.to_bytes()))


def test_windows_of_one_stream_are_apart_and_the_whole_is_not() -> None:
    s = Sketcher(SCHEMA, frequencies=8, memory="tumbling")
    s.learn_many(POINTS)
    first = s.release()
    s.learn_many(POINTS)
    second = s.release()
    assert average(first, second).count == 1000
    with pytest.raises(ConfigError, match="count twice"):
        average(first, first)
    assert overlap(["a"], ["a/0/1"]) == overlap(["a/0/1"], ["a"]) == ["a"]
    assert overlap(["a/0/0"], ["a/0/1", "b"]) == []


def test_paid_queries_and_releases_stay_with_their_ledger() -> None:
    a, b = learned("private"), learned("private")
    a.release()
    for left, right in ((a, b), (b, a)):
        with pytest.raises(ConfigError, match="before the first release"):
            left.merge(right)


def test_the_operators_must_be_one() -> None:
    other = Sketcher(SCHEMA, frequencies=9)
    with pytest.raises(SpecMismatchError):
        learned("public").merge(other)


# --- snapshots


@pytest.mark.parametrize(("left", "right"), list(product(PROMISES, PROMISES)))
def test_snapshots_state_what_holds_for_all_their_rows(left: str, right: str) -> None:
    a, b = learned(left).release(), learned(right).release()
    ra, rb = a.release, b.release
    if ra.private != rb.private or ra.adjacency != rb.adjacency:
        with pytest.raises(ConfigError, match="cannot be merged|neighbours"):
            average(a, b)
        return
    made = average(a, b).release
    assert made.rho == ra.rho + rb.rho and made.epsilon == ra.epsilon + rb.epsilon
    assert made.delta == ra.delta + rb.delta
    assert made.noise_std >= max(ra.noise_std, rb.noise_std)
    assert made.private == ra.private and made.adjacency == ra.adjacency
    if made.private:
        discrete = ra.notes["noise"] == rb.notes["noise"] == "discrete"
        assert made.notes["noise"] == ("discrete" if discrete else "rounded")


def test_a_user_is_protected_only_where_both_protect_one() -> None:
    schema = Schema.from_dict(
        {
            "x": {"kind": "numeric", "type": "double", "low": -1, "high": 1},
            "who": {"kind": "user_id", "type": "string"},
        }
    )
    rows = pa.table({"x": [0.1, 0.2], "who": ["a", "b"]})

    def released(unit: str) -> Snapshot:
        s = Sketcher(
            schema,
            frequencies=8,
            mechanism="toeplitz",
            privacy={**PRIVATE, "unit": unit},
            cells=False,
        )
        s.learn_many(rows)
        return s.release()

    row, user = released("row"), released("user")
    assert average(row, user).release.unit == average(user, row).release.unit == "row"
    assert average(user, released("user")).release.unit == "user"


def test_the_mark_of_test_mode_stays() -> None:
    from streamsketch.features import FeatureMap
    from streamsketch.privacy import Releaser

    fm = FeatureMap.from_frequencies(np.ones((2, 4)))

    def released(generator: np.random.Generator | None) -> Snapshot:
        r = Releaser(fm, SCHEMA, mechanism="toeplitz", settings=PRIVATE, test_generator=generator)
        return r.release(fm.sum(np.zeros((5, 2))), 5)

    marked, sound = released(np.random.default_rng(0)), released(None)
    for made in (average(marked, sound), average(sound, marked)):
        assert "TEST MODE" in made.release.notes


def test_cells_are_averaged_like_means() -> None:
    table = pa.table({"c": ["a", "b"] * 50, "n": list(range(100))})
    schema = Schema.propose(table)
    a, b = Sketcher(schema, frequencies=4), Sketcher(schema, frequencies=4)
    a.learn_many(table.slice(0, 30))
    b.learn_many(table.slice(30))
    whole = a.merge(b).release()
    made = average(a.release(), b.release())
    assert made.cells is not None and whole.cells is not None
    np.testing.assert_allclose(made.cells, whole.cells, atol=1e-12)
    np.testing.assert_allclose(made.mean, whole.mean, atol=1e-12)
