"""Both parts of a table's sketch: one vector, one pass, one norm, and files that keep them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch import Schema, Sketcher, Snapshot
from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.features import FeatureMap, build
from streamsketch.features.spec import Spec
from streamsketch.privacy.mechanisms import coefficients, planned
from streamsketch.schema import Column
from streamsketch.sketch import Sketch
from streamsketch.sketcher import spec_of

SCHEMA = Schema(
    [
        Column("town", "categorical", "string", values=("a", "b", "c")),
        Column("age", "numeric", "int64", low=0, high=99, nulls="indicator"),
        Column("height", "numeric", "float64", low=0, high=2),
        Column("paid", "boolean", "bool"),
    ]
)


def rows(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = pa.array(rng.integers(0, 100, n), mask=rng.random(n) < 0.1)
    town, height = rng.choice(list("abc"), n), rng.uniform(0, 2, n)
    return pa.table({"town": town, "age": age, "height": height, "paid": rng.random(n) < 0.3})


X = SCHEMA.encode(rows(400)).x


def table_map(private: bool = False, m: int = 32, coarse: int = 0):
    return build(spec_of(SCHEMA, m, cells=True, middle=8, coarse=coarse, private=private), SCHEMA)


@given(st.lists(st.integers(0, 400), max_size=4), st.permutations(range(4)))
@settings(max_examples=30, deadline=None)
def test_any_split_gives_the_same_sketch(cuts, order) -> None:
    features = table_map(coarse=3)
    whole = Sketch.zero(features)
    whole.update(features, X)
    edges = [0, *sorted(cuts), 400]
    parts = [X[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    sketches = []
    for k in sorted(range(len(parts)), key=lambda k: order[k % 4]):
        sketches.append(Sketch.zero(features))
        sketches[-1].update(features, parts[k])
    merged = sketches[0]
    for other in sketches[1:]:
        merged = other + merged
    assert (merged.total == whole.total).all() and merged.count == 400
    assert (Sketch.from_bytes(merged.to_bytes()).total == whole.total).all()


def test_the_fourier_part_is_that_of_a_sketch_without_cells() -> None:
    features = table_map()
    plain = FeatureMap.from_spec(spec_of(SCHEMA, 32), SCHEMA.blocks)
    assert (features.sum(X)[:64] == plain.sum(X)).all()
    made, bare = Sketcher(SCHEMA, 32, middle=8), Sketcher(SCHEMA, 32, cells=False)
    for one in (made, bare):
        one.learn_many(rows(400))
    both, only = made.release(), bare.release()
    assert (both.mean == only.mean).all() and both.layout.size == len(both.cells)
    assert only.cells is None and only.layout is None
    assert (np.rint(both.cells * 400) == features.sum(X)[64:]).all() and both.cell_noise == 0.0
    assert (both.features.features(X) == only.features.features(X)).all()


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("coarse", [0, 3])
def test_every_row_has_the_norm_that_is_stated(private, coarse) -> None:
    features = table_map(private, coarse=coarse)
    weight, tables = features.spec.cell_weight, features.layout.tables
    assert tables == 4 + 6 + (4 if coarse else 0) and (weight > 1) == private
    for k in range(100):
        one = features.sum(X[k : k + 1])
        assert np.square(one[64:]).sum() == tables  # exactly sqrt(T)
        norm = np.linalg.norm(one * features.units / 65536.0)
        assert 0.999 * features.norm_bound < norm <= features.norm_bound
    assert features.norm_bound == pytest.approx(
        np.hypot(np.sqrt(32), weight * np.sqrt(tables)), rel=1e-4
    )


def test_two_rows_are_at_most_sqrt_2t_apart() -> None:
    features = table_map(private=True)
    far = SCHEMA.encode(
        pa.table({"town": ["a", "b"], "age": [1, 90], "height": [0.1, 1.9], "paid": [True, False]})
    ).x
    apart = features.sum(far[:1]) - features.sum(far[1:])
    assert np.square(apart[64:]).sum() == 2 * features.layout.tables
    bound = features.replace_bound
    assert np.linalg.norm(apart * features.units / 65536.0) <= bound
    exact = 4 * 32 + 2 * features.spec.cell_weight**2 * features.layout.tables
    assert bound == pytest.approx(np.sqrt(exact), rel=1e-4) and bound < 2 * features.norm_bound


@pytest.mark.parametrize("name", ["gaussian", "toeplitz", "blt", "decayed", "tumbling", "sliding"])
def test_replacing_a_row_by_one_of_another_window_stays_within_the_bound(name) -> None:
    """Where C changes signs (sliding) two rows of different windows may come close to twice one."""
    features = table_map(private=True, m=4)
    releases = {"gaussian": 1, "decayed": None, "tumbling": None}.get(name, 10)
    settings = {"rho": 0.5, "releases": releases, "adjacency": "replace_one", "panes": 3}
    plan = planned(name, "landmark", settings)[1]
    assert plan is not None
    c = coefficients(plan.encoder, 10)
    size, worst = plan.unit_norm(features) * plan.participation, 0.0
    singles = [features.sum(X[k : k + 1]) * features.units / 65536.0 for k in range(40)]
    for s in range(1 if name == "gaussian" else 10):
        for t in range(s, 1 if name == "gaussian" else 10):
            for a, b in zip(singles[::2], singles[1::2], strict=True):
                coded = np.outer(np.append(np.zeros(s), c[: 10 - s]), a)
                coded -= np.outer(np.append(np.zeros(t), c[: 10 - t]), b)
                worst = max(worst, float(np.linalg.norm(coded)))
    assert worst <= size
    assert (plan.unit_norm(features) < 1.9 * features.norm_bound) == (name != "sliding")


def test_files_keep_both_parts(tmp_path) -> None:
    sketcher = Sketcher(SCHEMA, 16, middle=8, coarse=3, triples=[("town", "age", "paid")])
    sketcher.learn_many(rows(50))
    snapshot = sketcher.release()
    snapshot.save(tmp_path / "s")
    again = Snapshot.load(tmp_path / "s")
    assert (again.cells == snapshot.cells).all() and again.id == snapshot.id
    assert again.spec == snapshot.spec and again.layout.triples == ((0, 1, 3),)
    assert len(snapshot.to_bytes()) < 8 * len(sketcher.sketch.total) + 8000


def test_noise_on_cells_is_what_the_snapshot_says() -> None:
    private = {"epsilon": 1.0, "delta": 1e-6, "releases": 1}
    sketcher = Sketcher(SCHEMA, 32, mechanism="gaussian", privacy=private)
    n = 40_000
    sketcher.learn_many(rows(n))
    snapshot = sketcher.release()
    exact = sketcher.sketch.mean()[64:] * n
    noise = (snapshot.cells * snapshot.count - exact) / snapshot.count
    assert np.std(noise) == pytest.approx(snapshot.cell_noise, rel=0.1)
    fourier = snapshot.mean * snapshot.count - sketcher.sketch.mean()[:64] * n
    assert np.std(fourier) == pytest.approx(snapshot.release.noise_std, rel=0.4)


def test_other_cells_are_another_operator() -> None:
    kinds = [{"cells": False}, {"middle": 8}, {"middle": 9}, {"middle": 8, "coarse": 3}]
    made = [Sketcher(SCHEMA, 16, **kind) for kind in kinds]
    assert len({one.spec.fingerprint for one in made}) == 4
    with pytest.raises(SpecMismatchError):
        made[1].merge(made[2])
    # specs of sketches without cells are written, and named, as ever
    assert not {"middle", "coarse", "triples", "cell_weight"} & set(made[0].spec.to_dict())
    assert Spec.from_dict(made[3].spec.to_dict()) == made[3].spec


def test_a_snapshot_of_other_cells_is_refused() -> None:
    snapshot = Sketcher(SCHEMA, 16, middle=8).release()
    other = replace(snapshot, cells=snapshot.cells[1:])
    with pytest.raises(ConfigError, match="written for other cells"):
        _ = other.layout
    many = Schema([Column("id", "categorical", "string", values=tuple(map(str, range(600_000))))])
    with pytest.raises(ConfigError, match="'id'"):
        Sketcher(many, 1, cells=True)


def test_what_cannot_have_cells_says_so() -> None:
    with pytest.raises(ConfigError, match="a column like any"):
        Sketcher(SCHEMA, 16, cells=True, map="quadratic")
    with pytest.raises(ConfigError, match="lower them"):
        wide = Schema(
            [
                Column(f"x{k}", "numeric", "float64", low=0, high=1, nulls="indicator")
                for k in range(40)
            ]
        )
        Sketcher(wide, 16, middle=64)
    assert Sketcher(Schema.vectors(3, -1, 1), 16).release().layout is None


def test_nothing_seen_is_nothing_counted() -> None:
    snapshot = Sketcher(SCHEMA, 16).release()
    assert snapshot.cells is not None and not snapshot.cells.any()
