"""fit: it learns, is deterministic, starts warm, stops cleanly, and refuses what cannot work."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.errors import ConfigError, PrivacyError, SpecMismatchError, TrainingError
from streamsketch.generator import OBJECTIVES, NetworkConfig, TrainingConfig
from streamsketch.generator.trainer import Candidate, HeldOut
from streamsketch.schema.columns import Column
from tests.generator.conftest import CLASSES, table, two_bumps

SMALL = NetworkConfig("residual", latent=4, width=32, depth=2)
FAST = TrainingConfig(batch=256, rate=5e-3, average=0.98)


def test_it_learns_two_bumps(points):
    g = fit(points, steps=300, network=SMALL, config=FAST)
    x = g.sample_encoded(4000)
    right = x[:, 0] > 0
    assert abs(right.mean() - 0.7) < 0.06
    assert np.allclose(x[right].mean(0), 0.5, atol=0.05)
    assert np.allclose(x[~right].mean(0), -0.5, atol=0.08)
    assert g.metrics["heldout"] < 2e-3


def test_it_learns_a_table(snapshot):
    g = fit(snapshot, steps=400, network=SMALL, config=FAST)
    got, real = g.sample(5000).to_pandas(), table(5000, seed=9).to_pandas()
    assert abs(got.gain.isna().mean() - real.gain.isna().mean()) < 0.06
    assert abs((got.gain == 0).mean() - (real.gain == 0).mean()) < 0.08
    for k in CLASSES[:2]:
        assert abs((got.label == k).mean() - (real.label == k).mean()) < 0.08
        assert abs(got[got.label == k].x.mean() - real[real.label == k].x.mean()) < 0.12


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if OBJECTIVES[n].requires == "samples"])
def test_every_sample_objective_learns_in_the_same_loop(points, name):
    start = fit(points, steps=1, network=SMALL).metrics["heldout"]
    g = fit(
        points,
        steps=150,
        network=SMALL,
        config=FAST,
        objective=name,
        samples=two_bumps(3000).astype("f4"),
    )
    assert g.metrics["heldout"] < 0.5 * start


def test_it_learns_columns_that_determine_each_other():
    """Two equal columns of eight values; without links .73 of the rows agree after these steps."""
    values = tuple("abcdefgh")
    schema = Schema([Column(c, "categorical", "string", values=values) for c in "uv"])
    s = Sketcher(schema, frequencies=512, seed=0)
    s.learn_many(pa.table({c: [values[k % 8] for k in range(4000)] for c in "uv"}))
    made = fit(s.release(), steps=500, network=SMALL, config=FAST).sample(4000).to_pandas()
    assert (made.u == made.v).mean() > 0.79
    assert made.u.value_counts(normalize=True).min() > 0.08


def test_annealing_learns_too(points):
    g = fit(points, steps=300, network=SMALL, config=dataclasses.replace(FAST, anneal=0.5))
    assert g.metrics["heldout"] < 2e-3


def test_samples_may_be_a_table(snapshot):
    assert (
        fit(snapshot, steps=2, network=SMALL, objective="energy", samples=table(50)).metrics[
            "steps"
        ]
        == 2
    )


def test_the_same_call_gives_the_same_generator(points):
    a, b = (fit(points, steps=20, seed=5, network=SMALL) for _ in range(2))
    assert a.id == b.id
    assert a.id != fit(points, steps=20, seed=6, network=SMALL).id


def test_seconds_are_wall_clock(points):
    g = fit(points, seconds=0.5, network=SMALL)
    assert g.metrics["seconds"] >= 0.5
    assert g.metrics["stopped"] == "budget"


def test_a_warm_start_needs_a_third_of_the_steps(points):
    """The stream drifts by a fifth of a box side; the old generator is the better start."""
    old = fit(points, steps=300, network=SMALL, config=FAST)
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=256, seed=1)
    s.learn_many(np.clip(two_bumps(20000, seed=4) + 0.1, -1, 1))
    moved = s.release()
    cold = fit(moved, steps=150, network=SMALL, config=FAST).metrics["heldout"]
    warm = fit(moved, steps=50, network=SMALL, config=FAST, start=old).metrics["heldout"]
    assert warm < cold


def test_a_conditional_sketch_gives_labels_on_demand(conditional):
    g = fit(conditional, steps=400, network=SMALL, config=FAST)
    shares = g.network.shares.numpy()
    assert np.allclose(shares, [0.5, 0.4, 0.1], atol=0.05)
    rare = g.sample(300, label="rare").to_pandas()
    assert (rare.label == "rare").all() and len(rare) == 300
    assert abs(rare.x.mean() - 0.6) < 0.2
    mixed = g.sample(4000).to_pandas()
    assert abs((mixed.label == "a").mean() - 0.5) < 0.06


def test_restarts_keep_the_better_candidate(points):
    one = fit(points, steps=40, network=SMALL, config=FAST)
    three = fit(
        points, steps=120, network=SMALL, config=dataclasses.replace(FAST, restarts=3, trial=0.5)
    )
    assert three.metrics["steps"] < 120  # the steps of the losers are not the winner's
    assert math.isfinite(one.metrics["heldout"]) and math.isfinite(three.metrics["heldout"])


def test_progress_and_checkpoints_come_as_it_goes(points):
    seen, kept = [], []
    fit(
        points, seconds=1.0, network=SMALL, progress=seen.append,
        on_checkpoint=kept.append, checkpoint_every=0.2,
    )  # fmt: skip
    assert [p.done for p in seen] == sorted(p.done for p in seen) and seen[-1].done == 1.0
    assert seen[-1].heldout < seen[0].heldout and seen[-1].floor > 0
    assert kept and all(isinstance(g, Generator) for g in kept)
    again = fit(points, steps=5, start=Generator.from_bytes(kept[-1].to_bytes()))
    assert again.metrics["steps"] == 5


def test_training_ends_when_the_sketch_has_no_more_to_tell():
    s = Sketcher(Schema.vectors(1, -1, 1), frequencies=64, law="gaussian", seed=0)
    s.learn_many(np.random.default_rng(0).uniform(-0.5, 0.5, (60, 1)))
    g = fit(s.release(), steps=4000, network=SMALL, config=FAST)
    assert g.metrics["stopped"].startswith("held-out") and g.metrics["steps"] < 4000


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_keeps_the_last_sound_weights(points, caplog, fault):
    class Breaks:
        def __init__(self, problem, model):
            self.inner = OBJECTIVES["sketch"].build(problem, model)
            self.left = 100

        def __call__(self, y, done):
            self.left -= 1
            if self.left > 0:
                return self.inner(y, done)
            # sqrt(0) is finite, its gradient times zero is not
            return y.sum() * torch.nan if fault == "loss" else torch.sqrt((0 * y).sum())

    from streamsketch.generator import objectives

    objectives.OBJECTIVES["breaks"] = objectives.Entry("sketch", Breaks)
    try:
        g = fit(points, steps=200, network=SMALL, config=FAST, objective="breaks")
    finally:
        del objectives.OBJECTIVES["breaks"]
    assert g.metrics["stopped"] == "loss not finite" and g.metrics["steps"] in (99, 100)
    assert np.isfinite(g.sample_encoded(100)).all()
    assert "last sound weights" in caplog.text


def test_out_of_memory_halves_the_batch(points, caplog):
    """The device refuses batches above 100 rows."""

    class Full:
        def __init__(self, problem, model):
            self.inner = OBJECTIVES["sketch"].build(problem, model)

        def __call__(self, y, done):
            if len(y) > 100:
                raise torch.cuda.OutOfMemoryError("full")
            return self.inner(y, done)

    from streamsketch.generator import objectives

    objectives.OBJECTIVES["full"] = objectives.Entry("sketch", Full)
    try:
        g = fit(points, steps=5, network=SMALL, config=FAST, objective="full")
    finally:
        del objectives.OBJECTIVES["full"]
    assert g.metrics["batch"] == 64 and g.metrics["steps"] == 5
    assert "halved to 64" in caplog.text


def test_the_heldout_distance_is_unbiased(points):
    """Of a generator that is the data's own law it is about the floor, not the batch's noise."""
    g = fit(points, steps=2, network=SMALL)

    class Truth:
        classes, conditional, device = 1, False, torch.device("cpu")

        def draw(self, n, rng, labels):
            return torch.tensor(
                two_bumps(n, seed=int(rng.initial_seed()) + 50), dtype=torch.float32
            )

    omega = torch.tensor(points.features.omega, dtype=torch.float32)
    held = HeldOut(omega, torch.tensor(points.mean, dtype=torch.float32)[None], g.metrics["floor"])
    found = np.mean([held.distance(Truth(), seed=k) for k in range(8)])
    assert abs(found) < 2 * g.metrics["floor"]
    assert Candidate  # the loop uses the same function


def test_options_may_be_mappings_as_in_a_pipeline_file(points):
    g = fit(
        points, steps=1, network={"name": "mlp", "width": 16, "depth": 1}, config={"batch": 64}
    )
    assert g.config == NetworkConfig("mlp", width=16, depth=1) and g.metrics["batch"] == 64


def small_sketch(**changes):
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=16)
    s.learn_many(two_bumps(50))
    return dataclasses.replace(s.release(), **changes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"objective": "nope"}, ConfigError, "objective"),
        ({"objective": "stein"}, ConfigError, "needs samples"),
        ({"objective": "mmd", "samples": np.zeros((5, 3))}, ConfigError, "shape"),
        ({"objective": "mmd", "samples": np.full((5, 2), np.nan)}, ConfigError, "finite"),
        ({"samples": np.zeros((5, 2))}, ConfigError, "leave samples out"),
        ({"steps": 0}, ConfigError, "steps"),
        ({"seconds": 0}, ConfigError, "seconds"),
        ({"seconds": math.nan}, ConfigError, "seconds"),
        ({"device": "tpu"}, ConfigError, "device"),
        ({"network": "nope", "steps": 1}, ConfigError, "network"),
        ({"config": TrainingConfig(heldout=1.0)}, ConfigError, "heldout"),
        ({"config": TrainingConfig(anneal=1.5)}, ConfigError, "anneal"),
        ({"config": {"bach": 3}}, ConfigError, "bach"),
        ({"network": {"widht": 3}}, ConfigError, "widht"),
    ],
)
def test_wrong_calls_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fit(small_sketch(), **arguments)


def test_sample_objectives_are_refused_on_a_private_snapshot():
    snapshot = small_sketch()
    private = dataclasses.replace(
        snapshot, release=dataclasses.replace(snapshot.release, mechanism="gaussian")
    )
    with pytest.raises(PrivacyError, match="sketch"):
        fit(private, objective="stein", samples=np.zeros((5, 2), np.float32))


@pytest.mark.parametrize("count", [0.0, 3.0])
def test_too_few_rows_are_told(count):
    with pytest.raises(TrainingError, match="rows"):
        fit(small_sketch(count=count), steps=1)


def test_a_snapshot_that_is_not_finite_is_told():
    with pytest.raises(TrainingError, match="not finite"):
        fit(small_sketch(mean=np.full(32, np.nan)), steps=1)


def test_a_start_of_another_schema_is_refused(points):
    other = Generator.create(Schema.vectors(2, -2, 2))
    with pytest.raises(SpecMismatchError, match="schema"):
        fit(points, steps=1, start=other)


def test_a_start_of_other_classes_is_refused(schema, conditional):
    with pytest.raises(SpecMismatchError, match="classes"):
        fit(conditional, steps=1, start=Generator.create(schema))


def test_a_constant_column_is_learned():
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=64)
    s.learn_many(np.column_stack([np.full(500, 0.25), np.linspace(-1, 1, 500)]))
    x = fit(s.release(), steps=200, network=SMALL, config=FAST).sample_encoded(500)
    assert abs(x[:, 0].mean() - 0.25) < 0.05 and x[:, 0].std() < 0.1


def test_one_class_only_is_learned(schema):
    s = Sketcher(schema, frequencies=64, conditional=True)
    rows = table(2000)
    s.learn_many(rows.filter([k == "b" for k in rows["label"].to_pylist()]))
    g = fit(s.release(), steps=60, network=SMALL, config=FAST)
    assert set(g.sample(500)["label"].to_pylist()) == {"b"}


def test_a_warm_start_has_half_the_learning_rate(points):
    """Adam's first step is the learning rate, whatever the gradient: a twentieth of its height."""
    first = fit(points, steps=20, network=SMALL, seed=1)
    config = TrainingConfig(rate=1e-3, average=0.0)
    warm = fit(points, steps=1, start=first, config=config)
    before, after = (dict(g.network.named_parameters()) for g in (first, warm))
    moved = torch.cat([(after[k] - before[k]).detach().abs().flatten() for k in before])
    assert float(moved.max()) == pytest.approx(0.5 * 1e-3 / 20, rel=0.05)
