"""The sketch: exact sums, so that any split, order and merge gives the same bits."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch import Schema, Sketch, Sketcher
from streamsketch.errors import ConfigError, DataError, SpecMismatchError
from streamsketch.features import ONE, FeatureMap
from streamsketch.features.frequencies import LAWS
from streamsketch.features.kernels import BACKENDS
from streamsketch.features.spec import Spec
from streamsketch.schema import Column

# a structured backend sums its own law only; Triton needs a GPU or its interpreter (tests/kernels)
STRUCTURED = [("harmonic", "harmonic", 3), ("hadamard", "hadamard", 16)]
GENERAL = [b for b in BACKENDS if b not in ("harmonic", "hadamard", "triton")]
ONE_LAW_EACH = [(b, "multiscale", 3) for b in GENERAL] + STRUCTURED

RNG = np.random.default_rng(0)
WIDE = RNG.uniform(-1, 1, (500, 16)).astype(np.float32)
POINTS = WIDE[:, :3]


def slow_sum(x, omega):
    """The definition, one row and one frequency at a time."""
    total = np.zeros(2 * omega.shape[1], np.int64)
    for row in x.astype(np.float64):
        phases = [float(sum(a * b for a, b in zip(row, w, strict=True))) for w in omega.T]
        units = [np.trunc(ONE * np.cos(p)) for p in phases] + [
            np.trunc(ONE * np.sin(p)) for p in phases
        ]
        total += np.array(units, np.int64)
    return total


@pytest.mark.parametrize(
    ("backend", "law", "d"), [(b, law, 3) for b in GENERAL for law in LAWS] + STRUCTURED
)
def test_every_backend_agrees_with_the_definition_on_every_law(law, backend, d):
    fm = FeatureMap.from_spec(Spec(law, d, 40, seed=1))
    points = WIDE[:50, :d]
    difference = np.abs(fm.sum(points, backend=backend) - slow_sum(points, fm.omega))
    # float32 phases: a few units of 2^-16 per row where frequencies are fast
    assert difference.max() <= 50 * (1 + 2e-6 * np.abs(fm.omega).sum(axis=0).max() * ONE)


@pytest.mark.parametrize(("backend", "law", "d"), ONE_LAW_EACH)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_any_split_and_order_gives_the_same_bits(backend, law, d, data):
    fm = FeatureMap.from_spec(Spec(law, d, 33))
    n = data.draw(st.integers(1, 300))
    order = np.array(data.draw(st.permutations(range(n))))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    whole = fm.sum(WIDE[:n, :d], backend=backend)
    parts = [fm.sum(p, backend=backend) for p in np.split(WIDE[:n, :d][order], cuts)]
    assert (np.sum(parts, axis=0) == whole).all()


@pytest.mark.parametrize(("backend", "law", "d"), ONE_LAW_EACH)
def test_the_norm_bound_holds_for_one_row(backend, law, d):
    fm = FeatureMap.from_spec(Spec(law, d, 64))
    x = WIDE[:, :d]
    points = np.concatenate([x, np.zeros((1, d)), x * 1e-4, x * 1e3]).astype(np.float32)
    norms = [np.linalg.norm(fm.sum(p[None], backend=backend) / ONE) for p in points[::5]]
    assert max(norms) <= fm.norm_bound
    assert min(norms) > 0.99 * fm.norm_bound  # and the bound is not idle


def test_zero_gives_exactly_one():
    fm = FeatureMap.from_frequencies(RNG.normal(size=(2, 5)))
    for backend in GENERAL:
        assert fm.sum(np.zeros((3, 2)), backend=backend).tolist() == [3 * ONE] * 5 + [0] * 5


def test_merge_is_associative_commutative_and_leaves_its_parts_alone():
    fm = FeatureMap.from_spec(Spec("gaussian", 3, 16))
    a, b, c = (Sketch.zero(fm) for _ in range(3))
    for s, rows in ((a, POINTS[:10]), (b, POINTS[10:200]), (c, POINTS[200:])):
        s.update(fm, rows)
    before = a.total.copy()
    left, right = (a + b) + c, a.merge(c + b)
    assert (left.total == right.total).all() and left.count == right.count == 500
    assert (a.total == before).all()


def test_merging_other_operators_shows_both_fingerprints():
    a, b = (Sketch.zero(FeatureMap.from_spec(Spec("gaussian", 3, 16, seed=s))) for s in (1, 2))
    with pytest.raises(SpecMismatchError) as e:
        a.merge(b)
    assert a.spec.fingerprint in str(e.value) and b.spec.fingerprint in str(e.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_never_enters(bad):
    fm = FeatureMap.from_spec(Spec("gaussian", 3, 16))
    sketch = Sketch.zero(fm)
    rows = POINTS[:5].copy()
    rows[3, 1] = bad
    with pytest.raises(DataError):
        sketch.update(fm, rows)
    assert sketch.count == 0 and not sketch.total.any()


def test_bytes_round_trip_and_the_repr_shows_no_count():
    fm = FeatureMap.from_spec(Spec("gaussian", 3, 16))
    sketch = Sketch.zero(fm)
    sketch.update(fm, POINTS[:123])
    again = Sketch.from_bytes(sketch.to_bytes())
    assert (again.total == sketch.total).all() and again.count == 123 and again.spec == sketch.spec
    assert "123" not in repr(sketch)


def test_fingerprints_tell_every_field_apart():
    base = Spec("gaussian", 3, 16)
    others = [
        Spec("laplace", 3, 16), Spec("gaussian", 4, 16), Spec("gaussian", 3, 17), Spec("gaussian", 3, 16, 2.0),
        Spec("gaussian", 3, 16, seed=1), Spec("gaussian", 3, 16, schema_hash="x"), Spec("gaussian", 3, 16, classes=2),
    ]  # fmt: skip
    assert len({s.fingerprint for s in [base, *others]}) == 8
    assert Spec("gaussian", 3, 16, scale=1).fingerprint == base.fingerprint


# --- Sketcher


def test_learning_one_by_one_many_and_merged_is_the_same():
    schema = Schema.vectors(3, -1, 1)
    one, many, array, left, right = (Sketcher(schema, frequencies=32, seed=3) for _ in range(5))
    points = POINTS[:60].astype(np.float64)
    table = pa.table({f"x{j}": points[:, j] for j in range(3)})
    for row in table.to_pylist():
        one.learn_one(row)
    many.learn_many(table)
    array.learn_many(points)
    left.learn_many(table.slice(0, 17))
    right.learn_many(table.slice(17).to_batches()[0])
    totals = [s.sketch.total for s in (one, many, array, left.merge(right))]
    assert all((t == totals[0]).all() for t in totals)
    assert left.merge(right).release().count == 60 and left.sketch.count == 17


def test_anything_with_the_arrow_stream_interface_is_learned():
    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table({"x0": [0.5]}).__arrow_c_stream__(requested_schema)

    sketcher = Sketcher(Schema.vectors(1, 0, 1), frequencies=4)
    sketcher.learn_many(Stream())
    assert sketcher.sketch.count == 1


def test_refused_rows_raise_and_nothing_is_learned_or_go_to_the_dead_letters():
    schema = Schema.vectors(1, 0, 1)
    table = pa.table({"x0": [0.5, float("nan"), 0.7]})
    strict = Sketcher(schema, frequencies=4)
    with pytest.raises(DataError, match="row 1"):
        strict.learn_many(table)
    assert strict.sketch.count == 0
    seen = []
    lenient = Sketcher(
        schema, frequencies=4, dead_letters=lambda rejected, rows: seen.extend(rejected)
    )
    lenient.learn_many(table)
    assert lenient.sketch.count == 2 and [r.row for r in seen] == [1]


def test_a_conditional_sketch_has_a_block_per_label():
    schema = Schema(
        [Column("x", "numeric", low=-1, high=1), Column("y", "label", "string", values=("a", "b"))]
    )
    table = pa.table({"x": [0.1, 0.2, 0.3], "y": ["a", "b", "a"]})
    conditional = Sketcher(schema, frequencies=8, conditional=True)
    conditional.learn_many(table)
    joint = Sketcher(schema, frequencies=8, cells=False)
    joint.learn_many(table)
    blocks = conditional.sketch.total.reshape(2, -1)
    assert (blocks.sum(axis=0) == joint.sketch.total).all()
    only_b = Sketcher(schema, frequencies=8, cells=False)
    only_b.learn_many(table.slice(1, 1))
    assert (blocks[1] == only_b.sketch.total).all()
    with pytest.raises(ConfigError, match="label"):
        Sketcher(Schema.vectors(1, 0, 1), conditional=True)


@pytest.mark.parametrize("m", [0, -3])
def test_no_frequencies_are_refused(m):
    with pytest.raises(ConfigError, match=f"frequencies = {m}"):
        Sketcher(Schema.vectors(1, 0, 1), frequencies=m)


def test_a_river_users_loop():
    from river import stream

    sketcher = Sketcher(Schema.vectors(2, 0, 1), frequencies=16)
    rows = [{"x0": 0.1, "x1": 0.9}, {"x0": 0.4, "x1": 0.2}]
    for x, _ in stream.iter_array(
        np.array([[r["x0"], r["x1"]] for r in rows]), feature_names=["x0", "x1"]
    ):
        sketcher.learn_one(x)
    assert sketcher.release().count == 2


def test_rows_too_wide_for_memory_are_refused_before_any_is_read():
    from streamsketch import Schema, Sketcher
    from streamsketch.errors import ConfigError
    from streamsketch.schema import Column

    values = tuple(str(i) for i in range(200_000))
    schema = Schema([Column("city", "categorical", "string", values=values)])
    with pytest.raises(ConfigError, match="200,000, are those of 'city'"):
        Sketcher(schema, 16)
