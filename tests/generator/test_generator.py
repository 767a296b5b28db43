"""Generator: sampling, labels, latents, checkpoints."""

import numpy as np
import pytest
import torch

from streamsketch import Generator, Schema, fit
from streamsketch.errors import ConfigError, DamagedFileError, StoreError
from streamsketch.generator import NETWORKS, NetworkConfig
from streamsketch.storage.files import pack, unpack

SMALL = NetworkConfig("residual", latent=4, width=32, depth=2)


@pytest.fixture(scope="module")
def trained(snapshot):
    return fit(snapshot, steps=150, network=SMALL)


def test_rows_have_the_streams_names_and_types_and_stay_within_limits(trained, schema):
    t = trained.sample(500, seed=1)
    assert t.schema == schema.arrow and t.num_rows == 500
    gain = t["gain"].drop_null().to_numpy()
    assert gain.min() >= 0 and gain.max() <= 1
    assert schema.encode(t).rejected == ()


def test_sampling_depends_on_the_seed_only(trained):
    a = trained.sample_encoded(20000, seed=1)
    assert np.array_equal(a, trained.sample_encoded(20000, seed=1))
    assert np.array_equal(a[:100], trained.sample_encoded(100, seed=1))
    assert not np.array_equal(a, trained.sample_encoded(20000, seed=2))
    assert a.dtype == np.float32


@pytest.mark.parametrize("n", [0, 1, 8192, 8193])
def test_any_number_of_rows(trained, n):
    assert trained.sample(n).num_rows == n


def test_a_joint_sketch_draws_by_label_too(trained):
    t = trained.sample(50, label="b")
    assert set(t["label"].to_pylist()) == {"b"} and t.num_rows == 50


def test_labels_that_cannot_be_drawn_are_told(trained):
    with pytest.raises(ConfigError, match="declared values"):
        trained.sample(5, label="never")
    with pytest.raises(ConfigError, match="no label"):
        Generator.create(Schema.vectors(2, -1, 1)).sample(5, label="a")
    with pytest.raises(ConfigError, match="n = -1"):
        trained.sample(-1)


def test_a_label_that_is_never_generated_is_told(trained, monkeypatch):
    silent = Generator.from_bytes(trained.to_bytes())
    with torch.no_grad():
        block = next(b for b in silent.schema.blocks if b.column == "label")
        silent.network.network[-1].bias[block.start] = -1e9
    monkeypatch.setattr("streamsketch.generator.neural.MAX_TRIES", 2)
    with pytest.raises(ConfigError, match="conditional"):
        silent.sample(5, label="a")


def test_a_conditional_generator_needs_labels_with_latents(conditional):
    g = Generator.create(conditional.schema, conditional, SMALL)
    z = torch.zeros((2, 4))
    with pytest.raises(ConfigError, match="labels"):
        g.decode_latent(z)
    y = g.decode_latent(z, torch.tensor([2, 0]))
    assert y[:, -3:].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_latents_decode_smoothly(trained):
    z = torch.randn(
        (5, trained.latent_dim), generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    y = trained.decode_latent(z)
    assert y.shape == (5, trained.schema.d)
    y.sum().backward()
    assert (z.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "conv"])
def test_a_checkpoint_is_the_generator(tmp_path, snapshot, name):
    g = Generator.create(snapshot.schema, snapshot, name, seed=3)
    g.metrics = {"loss": 0.5}
    g.save(tmp_path / "c.safetensors")
    again = Generator.load(tmp_path / "c.safetensors")
    assert again.id == g.id and again.config == g.config and again.metrics == g.metrics
    assert again.snapshot.id == snapshot.id and again.fingerprint == snapshot.spec.fingerprint
    assert again.schema == g.schema
    assert np.array_equal(again.sample_encoded(50), g.sample_encoded(50))


def test_a_conditional_checkpoint(tmp_path, conditional):
    g = Generator.create(conditional.schema, conditional, NetworkConfig("mlp", 4, 8, 1))
    g.save(tmp_path / "c")
    assert np.array_equal(Generator.load(tmp_path / "c").sample_encoded(50), g.sample_encoded(50))


def test_fields_that_mean_nothing_any_more_are_read_and_leave_the_id():
    g = Generator.create(Schema.vectors(2, -1, 1), None, NetworkConfig("mlp", 4, 8, 1))
    with torch.no_grad():
        for weights in g.network.parameters():
            weights.fill_(0.5)
    arrays, body = unpack(g.to_bytes(), "checkpoint")
    body["config"] |= {"mixture": 0, "tau": 0.5}
    again = Generator.from_bytes(pack("checkpoint", arrays, body))
    assert again.id == g.id == "47d95971a70dae67"
    body["config"]["mixture"] = 3
    with pytest.raises(DamagedFileError, match="learned mixture"):
        Generator.from_bytes(pack("checkpoint", arrays, body))


def test_rows_of_latents_are_the_rows_that_are_drawn(trained, conditional):
    """One law: independent latents with `rows_of` are what `sample_encoded` draws."""
    g = Generator.create(conditional.schema, conditional, seed=1)
    labels = g.draw_labels(4000, seed=2)
    z = np.random.default_rng(3).standard_normal((4000, g.latent_dim)).astype(np.float32)
    x, other = g.rows_of(z, labels, seed=4), g.sample_encoded(4000, seed=5)
    assert np.abs(x.mean(0) - other.mean(0)).max() < 0.06
    assert (g.draw_labels(5, seed=0, label=g.schema.label_classes[1]) == 1).all()
    assert trained.classes == 1 and trained.draw_labels(5, seed=0) is None


def test_without_a_snapshot(tmp_path):
    g = Generator.create(Schema.vectors(2, -1, 1))
    g.save(tmp_path / "c")
    assert Generator.load(tmp_path / "c").snapshot is None and g.fingerprint == ""


@pytest.mark.parametrize("at", [10, 200, -20])
def test_a_damaged_checkpoint_is_refused(trained, at):
    data = bytearray(trained.to_bytes())
    data[at] ^= 0xFF
    with pytest.raises(DamagedFileError):
        Generator.from_bytes(bytes(data))
    with pytest.raises(DamagedFileError):
        Generator.from_bytes(trained.to_bytes()[:-7])


def test_a_file_of_another_kind_or_none(tmp_path, snapshot):
    with pytest.raises(DamagedFileError, match="snapshot"):
        Generator.from_bytes(snapshot.to_bytes())
    with pytest.raises(StoreError):
        Generator.load(tmp_path / "none")


def test_parts_that_do_not_fit_are_told(trained):
    arrays, body = unpack(trained.to_bytes(), "checkpoint")
    body["config"]["width"] = 16
    with pytest.raises(DamagedFileError, match="fit together"):
        Generator.from_bytes(pack("checkpoint", arrays, body))


def test_the_repr_names_what_it_is(trained):
    assert "residual" in repr(trained) and trained.id in repr(trained)
