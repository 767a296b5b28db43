"""Heads: encoded rows that the schema could have made."""

import numpy as np
import pytest
import torch

from streamsketch import Schema
from streamsketch.generator.heads import GAIN, Head
from streamsketch.schema.columns import Column


@pytest.fixture
def mixed():
    return Schema(
        [
            Column("a", "numeric", low=0, high=1),
            Column("b", "numeric", low=0, high=1, atoms=(0.5,), nulls="indicator"),
            Column("c", "categorical", "string", values=("x", "y", "z")),
            Column(
                "t", "timestamp", "timestamp[s]", low="2020-01-01", high="2021-01-01",
                periods=("day", "week"), nulls="indicator",
            ),
            Column("e", "numeric", low=0, high=1),
            Column("f", "numeric", low=0, high=1),
        ]
    )  # fmt: skip


def drawn(schema, n=400, **options):
    head = Head(schema.blocks, **options)
    rng = torch.Generator().manual_seed(0)
    raw = 2 * torch.randn((n, schema.d), generator=rng)
    with torch.no_grad():
        return head, raw, head(raw, head.noise(n, rng, torch.device("cpu")))


def test_rows_look_like_encoded_rows(mixed):
    _, _, y = drawn(mixed)
    y = y.numpy()
    for b in mixed.blocks:
        part = y[:, b.slice]
        if b.kind in ("onehot", "state"):
            assert np.allclose(part.max(1), 1) and np.allclose(part.sum(1), 1, atol=1e-5)
        else:
            assert np.abs(part).max() <= 1 + 1e-6


def test_a_special_state_zeroes_its_column_and_circles_are_round(mixed):
    _, _, y = drawn(mixed)
    state = next(b for b in mixed.blocks if b.kind == "state" and b.column == "t")
    regular = y[:, state.start] > 0.5
    assert regular.any() and (~regular).any()
    for b in (b for b in mixed.blocks if b.column == "t" and b.kind != "state"):
        part = y[:, b.slice]
        assert (part[~regular].abs() < 1e-6).all()
        if b.kind == "circle":
            assert torch.allclose(
                part[regular].norm(dim=1), torch.ones(int(regular.sum())), atol=1e-4
            )


def test_encoding_a_decoded_row_gives_the_row(mixed):
    _, _, y = drawn(mixed)
    again = mixed.encode(mixed.decode(y.numpy())).x
    hours = [i for b in mixed.blocks if b.column == "t" for i in range(b.start, b.start + b.width)]
    plain = [i for i in range(mixed.d) if i not in hours]
    assert np.abs(again[:, plain] - y.numpy()[:, plain]).max() < 1e-5


def test_categories_are_drawn_with_their_probabilities():
    schema = Schema([Column("c", "categorical", "string", values=("x", "y", "z"))])
    head = Head(schema.blocks)
    rng = torch.Generator().manual_seed(0)
    raw = torch.log(torch.tensor([0.7, 0.2, 0.1])).expand(20000, 3) / GAIN
    y = head(raw, head.noise(20000, rng, torch.device("cpu"))).detach()
    assert np.allclose(y.mean(0).numpy(), [0.7, 0.2, 0.1], atol=0.015)


def test_gradients_reach_every_raw_output(mixed):
    head = Head(mixed.blocks)
    rng = torch.Generator().manual_seed(0)
    raw = torch.randn((64, mixed.d), generator=rng, requires_grad=True)
    y = head(raw, head.noise(64, rng, torch.device("cpu")))
    (y * torch.arange(1.0, mixed.d + 1)).sum().backward()
    assert (raw.grad.abs().sum(0) > 0).all()


def test_without_noise_the_map_is_smooth(mixed):
    head, raw, _ = drawn(mixed, n=5)
    assert torch.equal(head(raw, None), head(raw, None))
    assert ((head(raw, None) > 0.01) & (head(raw, None) < 0.99)).any()


def test_a_told_label_is_the_label():
    schema = Schema(
        [Column("a", "numeric", low=0, high=1), Column("l", "label", "string", values=("u", "v"))]
    )
    head = Head(schema.blocks, label=schema.blocks[1])
    y = head(
        torch.zeros((2, 3)),
        head.noise(2, torch.Generator(), torch.device("cpu")),
        torch.tensor([1, 0]),
    )
    assert y[:, 1:].tolist() == [[0, 1], [1, 0]]


def test_unbounded_numbers_pass_unchanged():
    schema = Schema.vectors(2, -1, 1)
    head = Head(schema.blocks, bounded=False)
    raw = torch.tensor([[3.0, -5.0]])
    assert torch.equal(head(raw, head.noise(1, torch.Generator(), torch.device("cpu"))), raw)


def test_links_let_one_category_decide_another():
    """Two equal columns: no latent knows the first one's noise, so only a link can copy it."""
    values = ("x", "y", "z")
    schema = Schema([Column(c, "categorical", "string", values=values) for c in "ab"])
    head = Head(schema.blocks)
    with torch.no_grad():
        head.links[0].copy_(50 * torch.eye(3))
    rng = torch.Generator().manual_seed(0)
    y = head(torch.zeros((300, 6)), head.noise(300, rng, torch.device("cpu"))).detach()
    assert torch.equal(y[:, :3], y[:, 3:]) and (y[:, :3].mean(0) > 0.2).all()


def test_plain_points_have_no_links():
    assert Head(Schema.vectors(3, -1, 1).blocks).links is None


def test_the_gradient_of_a_draw_is_that_of_its_mean():
    schema = Schema([Column("c", "categorical", "string", values=("x", "y", "z"))])
    head, n = Head(schema.blocks), 1000
    rng = torch.Generator().manual_seed(0)
    raw = torch.tensor([0.2, -0.1, 0.0]).repeat(n, 1).requires_grad_()
    worth = torch.tensor([1.0, -2.0, 0.5])
    y = head(raw, head.noise(n, rng, torch.device("cpu")))
    (y @ worth).sum().backward()
    p = torch.softmax(GAIN * raw.detach()[0], 0)
    exact = GAIN * p * (worth - p @ worth)
    assert torch.allclose(raw.grad.mean(0), exact, atol=1e-5)
