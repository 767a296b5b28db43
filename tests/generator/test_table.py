"""The generator of tables as its callers see it: fit, sample, conditions, latents, files, noise."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from streamsketch import Generator, Sampler, Schema, Sketcher, fit
from streamsketch.errors import ConfigError, DamagedFileError, SpecMismatchError, TrainingError
from streamsketch.generator import Autoregressive, NetworkGenerator
from streamsketch.generator.autoregressive.denoise import denoised
from streamsketch.generator.autoregressive.law import uniforms
from streamsketch.generator.autoregressive.targets import targets_of
from streamsketch.generator.autoregressive.tilt import Psi, drawn
from streamsketch.schema import Column
from streamsketch.storage.files import pack, unpack

N = 12_000


def table(n: int = N, seed: int = 0) -> pa.Table:
    """Numbers, categories, nulls and a label that depend on each other; town and code are one."""
    r = np.random.default_rng(seed)
    label = r.choice(3, n, p=(0.6, 0.37, 0.03))
    x = np.clip(r.normal(size=n) * 0.15 + np.array([-0.5, 0.0, 0.5])[label], -1, 1)
    age = np.clip(np.round(30 + 20 * x + r.normal(size=n) * 5), 0, 80).astype(int)
    town = r.choice(5, n, p=(0.4, 0.3, 0.2, 0.09, 0.01))
    gain = np.where(r.random(n) < 0.7, 0.0, r.uniform(0, 1, n))
    return pa.table(
        {
            "x": x,
            "age": age,
            "gain": pa.array(gain, mask=r.random(n) < 0.1 + 0.3 * (town == 1)),
            "town": [f"t{k}" for k in town],
            "code": [f"c{k}" for k in town],
            "label": pa.array([None if k == 2 else "ab"[k] for k in label]),
        }
    )


SCHEMA = Schema(
    [
        Column("x", "numeric", low=-1, high=1),
        Column("age", "numeric", "int64", low=0, high=80),
        Column("gain", "numeric", low=0, high=1, atoms=(0.0,), nulls="indicator"),
        Column("town", "categorical", "string", values=tuple(f"t{k}" for k in range(5))),
        Column("code", "categorical", "string", values=tuple(f"c{k}" for k in range(6))),
        Column("label", "label", "string", values=("a", "b"), nulls="category"),
    ]
)


def sketch(rows: pa.Table, **options) -> Sketcher:
    s = Sketcher(SCHEMA, frequencies=64, seed=1, cells=True, middle=12, **options)
    s.learn_many(rows)
    return s


@pytest.fixture(scope="module")
def snapshot():
    return sketch(table()).release()


@pytest.fixture(scope="module")
def made(snapshot) -> Autoregressive:
    return fit(snapshot)


def pairs(rows: pa.Table, a: str, b: str) -> dict:
    found = rows.select([a, b]).to_pylist()
    values = [tuple(row.values()) for row in found]
    return {v: values.count(v) / len(values) for v in set(values)}


def test_a_table_is_fitted_by_likelihood_and_a_network_where_asked(snapshot, made) -> None:
    assert isinstance(made, Autoregressive) and made.metrics["objective"] == "likelihood"
    assert isinstance(fit(snapshot, steps=2), NetworkGenerator)
    assert isinstance(fit(snapshot, 0.1, network="residual", start=made), NetworkGenerator)


def test_rows_are_the_streams(made) -> None:
    rows, real = made.sample(N, seed=3), table(seed=9)
    assert rows.schema == SCHEMA.arrow and SCHEMA.encode(rows).rejected == ()
    for a, b in (("town", "label"), ("code", "town")):
        mine, wanted = pairs(rows, a, b), pairs(real, a, b)
        assert 0.5 * sum(abs(mine.get(v, 0) - wanted.get(v, 0)) for v in mine | wanted) < 0.03
    nulls = [
        rows.filter(pa.compute.equal(rows["town"], t))["gain"].null_count for t in ("t0", "t1")
    ]
    assert nulls[1] > 2 * nulls[0]
    age, x = (np.array(rows[c], float) for c in ("age", "x"))
    assert np.corrcoef(age, x)[0, 1] > 0.7


def test_columns_that_are_one_agree_and_what_never_came_is_not_made(made) -> None:
    rows = made.sample(N, seed=4)
    town, code = (np.array([v[1] for v in rows[c].to_pylist()]) for c in ("town", "code"))
    assert np.mean(town != code) < 0.002 and "c5" not in rows["code"].to_pylist()


def test_the_same_arguments_give_the_same_bits(snapshot, made) -> None:
    again = fit(snapshot)
    assert again.id == made.id
    assert (again.sample_encoded(500, 7) == made.sample_encoded(500, 7)).all()
    assert (made.sample_encoded(500, 8) != made.sample_encoded(500, 7)).any()
    assert made.sample_encoded(500, 7).dtype == np.float32
    assert fit(snapshot, seed=5).id != made.id


@pytest.mark.parametrize("n", [0, 1, 65537])
def test_any_number_of_rows(made, n: int) -> None:
    assert made.sample(n).num_rows == n


def test_a_warm_start_needs_few_steps(snapshot, made) -> None:
    moved = sketch(table(2 * N, seed=2)).release()
    warm, cold = fit(moved, start=made), fit(moved)
    assert warm.metrics["start"] == "warm" and warm.metrics["steps"] < cold.metrics["steps"]
    assert warm.metrics["loss"] < cold.metrics["loss"] + 0.05
    assert warm.metrics["heldout"] < 5 * warm.metrics["floor"]
    other = Sketcher(SCHEMA, frequencies=64, seed=1, cells=True, middle=8)
    other.learn_many(table(100))
    with pytest.raises(SpecMismatchError, match="same operator"):
        fit(other.release(), start=made)


def test_the_verdict_is_in_words(made, snapshot) -> None:
    assert made.metrics["verdict"].endswith("good")
    assert made.metrics["independent"] > 5 * made.metrics["heldout"]
    assert made.metrics["pairs"] < 0.05


# --- conditions


def test_conditions_on_any_columns(made) -> None:
    for where in (
        {"label": "b"},
        {"label": None},
        {"town": ["t3", "t4"], "age": (20, 30)},
        {"x": (-0.2, 0.1)},
        {"gain": None, "label": "a"},
        {"gain": 0.0},
    ):
        rows = made.sample(300, seed=1, where=where)
        assert rows.num_rows == 300
        for name, condition in where.items():
            values = rows[name].to_pylist()
            if isinstance(condition, tuple):
                assert condition[0] <= min(values) and max(values) <= condition[1]
            else:
                asked = condition if isinstance(condition, list) else [condition]
                assert set(values) <= set(asked)


def test_conditioned_rows_follow_the_conditional(made) -> None:
    rows = made.sample(4000, where={"town": "t1"})
    assert rows["gain"].null_count / 4000 == pytest.approx(0.4, abs=0.04)
    rare = made.sample(2000, where={"age": (58, 80)})  # the label comes before it
    real = table(200_000, seed=5)
    real = real.filter(pa.compute.greater_equal(real["age"], 58))
    share = real["label"].null_count / real.num_rows
    assert rare["label"].null_count / 2000 == pytest.approx(share, abs=0.1)


def test_labels_may_be_asked_for(made) -> None:
    assert set(made.sample(50, label="b")["label"].to_pylist()) == {"b"}
    assert made.sample_encoded(50, label="b").shape == (50, SCHEMA.d)
    with pytest.raises(ConfigError, match="declared values"):
        made.sample(5, label="never")
    with pytest.raises(ConfigError, match="n = -1"):
        made.sample(-1)


def test_a_condition_that_never_occurs_is_told(made) -> None:
    with pytest.raises(ConfigError, match="never had it"):
        made.sample(5, where={"code": "c5"})
    with pytest.raises(ConfigError, match="never had it"):
        made.sample(5, where={"code": "c1", "town": "t0"})
    with pytest.raises(ConfigError, match="need a range"):
        made.sample(5, where={"x": 0.1234})
    with pytest.raises(ConfigError, match="no column"):
        made.sample(5, where={"nobody": 1})


# --- latents


def test_latents_decide_everything(made) -> None:
    z = np.random.default_rng(0).normal(size=(4000, made.latent_dim)).astype(np.float32)
    rows = made.rows_of(z, None, 0)
    assert (rows == made.rows_of(z, None, 1)).all()
    decoded = made.decode_latent(torch.from_numpy(z).double())
    assert (decoded.numpy() == rows).all()
    mine = pairs(SCHEMA.decode(rows), "town", "label")
    wanted = pairs(table(seed=9), "town", "label")
    assert 0.5 * sum(abs(mine.get(v, 0) - wanted[v]) for v in wanted) < 0.05
    assert made.classes == 1 and made.draw_labels(3, 0) is None


def test_latents_have_a_slope(made) -> None:
    z = torch.zeros(3, made.latent_dim, dtype=torch.float64, requires_grad=True)
    made.decode_latent(z)[:, 0].sum().backward()  # x, the first coordinate
    k = next(k for k, v in enumerate(made.layout.variables) if v.name == "x")
    assert (z.grad[:, k] > 0).all()
    others = torch.cat([z.grad[:, :k], z.grad[:, k + 1 :]], 1)
    assert not others.any()


def test_the_history_aware_sampler_takes_it(made) -> None:
    drawer = Sampler(made, seed=0)
    rows = pa.concat_tables([drawer.sample(64), drawer.sample(64)])
    assert rows.num_rows == 128 and SCHEMA.encode(rows).rejected == ()
    assert Sampler(made, target="latent", seed=0).sample(16).num_rows == 16


# --- files


def test_files_come_back(made, tmp_path) -> None:
    made.save(tmp_path / "g.safetensors")
    again = Generator.load(tmp_path / "g.safetensors")
    assert again.id == made.id and again.metrics == made.metrics and repr(again) == repr(made)
    assert again.sample(200, 3).equals(made.sample(200, 3))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda a, b: a.update({"single.age": a["single.age"][:, 1:]}), "shapes"),
        (lambda a, b: a["single.age"].__setitem__((0, 0), np.nan), "not finite"),
        (lambda a, b: a["shares.age"].__setitem__(0, 7.0), "add up to 1"),
        (lambda a, b: a["shares.age"].__setitem__(0, -1.0), "shares of age"),
        (lambda a, b: a.pop("single.town"), "single.town"),
        (lambda a, b: a.pop("snapshot"), "no cells"),
        (lambda a, b: b["order"].reverse(), "shapes"),
        (lambda a, b: b["order"].pop(), "variables"),
        (lambda a, b: a.update(theta=np.zeros(3)), "tilt"),
        (lambda a, b: b.update(model="oracle"), "'oracle' is unknown"),
    ],
)
def test_damaged_files_are_refused(made, damage, reason: str) -> None:
    arrays, body = unpack(made.to_bytes(), "checkpoint", "it")
    arrays = {k: v.copy() for k, v in arrays.items()}
    damage(arrays, body)
    with pytest.raises(DamagedFileError, match=reason):
        Generator.from_bytes(pack("checkpoint", arrays, body))


# --- few rows, odd columns


def test_two_rows_one_value_all_null() -> None:
    rows = pa.table(
        {"same": ["a", "a"], "x": [1.5, 2.5], "none": pa.array([None, None], pa.float64())}
    )
    nothing = Column("none", "numeric", low=0, high=1, nulls="indicator")
    schema = Schema([*Schema.propose(rows.select(["same", "x"])).columns, nothing])
    s = Sketcher(schema, frequencies=16, cells=True, middle=8)
    s.learn_many(rows)
    g = fit(s.release())
    drawn = g.sample(100)
    assert set(drawn["same"].to_pylist()) == {"a"} and drawn["none"].null_count == 100
    assert set(drawn["x"].to_pylist()) <= {1.5, 2.5}


def test_an_empty_snapshot_is_told() -> None:
    with pytest.raises(TrainingError, match="0 rows"):
        fit(sketch(table(0)).release())


# --- noise


def test_noise_is_taken_out_of_tables() -> None:
    """Margins agree, nothing is negative, and shrunk tables are nearer than noisy ones."""
    snapshot = sketch(table()).release()
    layout, true = snapshot.layout, snapshot.cells
    for sd in (1e-4, 1e-3, 1e-2):
        noisy = true + sd * np.random.default_rng(0).normal(size=len(true))
        found, informed = denoised(layout, noisy, sd)
        assert found.min() >= 0 and np.isfinite(found).all()
        assert np.abs(found - true).sum() < 0.9 * np.abs(noisy - true).sum()
        for k, v in enumerate(layout.variables):
            assert layout.single(found, k).sum() == pytest.approx(1)
            assert len(layout.single(found, k)) == v.finest
        assert informed > 0.5 or sd > 1e-4
    assert np.allclose(denoised(layout, true, 1e-12)[0], true, atol=1e-9)


@pytest.mark.parametrize(("epsilon", "close"), [(8.0, True), (0.02, False)])
def test_private_tables(epsilon: float, close: bool) -> None:
    g = fit(private(epsilon).release())
    rows = g.sample(3000)
    assert rows.num_rows == 3000 and g.theta is not None and g.theta.any()
    if close:
        assert g.metrics["informed"] > 0.5
        town, code = (np.array([v[1] for v in rows[c].to_pylist()]) for c in ("town", "code"))
        assert np.mean(town == code) > 0.85
    else:
        assert g.metrics["informed"] < 0.5 and np.isfinite(g.sample_encoded(10)).all()
        assert "independently" in g.metrics["verdict"]


def private(epsilon: float) -> Sketcher:
    privacy = {"epsilon": epsilon, "delta": 1e-5, "releases": 1}
    s = Sketcher(SCHEMA, frequencies=64, seed=1, cells=True, middle=8, mechanism="gaussian",
                 privacy=privacy)  # fmt: skip
    s.learn_many(table())
    return s


def test_a_tilt_of_log_three_makes_a_cell_three_times_as_frequent(made) -> None:
    psi, rng = Psi(made.layout), np.random.default_rng(0)

    def shares(theta: np.ndarray) -> np.ndarray:
        mean = np.zeros(psi.size)
        codes, _ = drawn(made.law, theta, 50_000, rng)
        psi.weigh(psi.cells(codes), np.zeros(psi.size), mean)
        return mean

    theta = np.zeros(psi.size)
    plain = shares(theta)
    at = int(np.abs(plain - 0.05).argmin())
    p, theta[at] = plain[at], np.log(3.0)
    assert 0.03 < p < 0.07 and shares(theta)[at] == pytest.approx(3 * p / (1 + 2 * p), rel=0.1)


def test_the_ridge_grows_with_the_noise() -> None:
    quiet, loud = (targets_of(private(e).release()) for e in (4.0, 0.5))
    beyond = [t.ridge * t.count - 1 for t in (quiet, loud)]
    assert beyond[0] > 0.1 and beyond[1] > 4 * beyond[0]


def test_uniforms_have_one_value_in_each_part() -> None:
    u = uniforms(3, 50, np.random.default_rng(0))
    assert (np.sort((u * 50).astype(int), 1) == np.arange(50)).all()


def test_values_fill_their_finest_cells(made) -> None:
    u = uniforms(made.latent_dim, 20_000, np.random.default_rng(0))
    codes, within = made.law.draw(u)
    k = next(k for k, v in enumerate(made.layout.variables) if v.name == "x")
    for cell in np.flatnonzero(np.bincount(codes[k]) > 200):
        places = within[k][codes[k] == cell]
        assert places.min() < 0.1 and places.max() > 0.9 and abs(places.mean() - 0.5) < 0.1
