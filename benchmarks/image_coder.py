"""An encoder of images that no image was needed for: an autoencoder of pictures drawn at random.

Half of the pictures are one to three curved strokes, half are one to six overlapping shapes with
gradients and stripes. Nothing of a private set is in it, and nothing public has to be declared. (Baradad et al.
2021 and Tang et al. 2023 learn features of images from random processes in the same way.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.image_data import cache
from streamsketch import Schema

SIDE, D, CLASSES = 28, 784, 10
REACH = 4.0  # codes have variance one on drawn pictures; they are clipped there
BLOCK = 1000
F32 = NDArray[np.float32]


def schema_of(k: int, low: float = -1.0) -> Schema:
    """A code of k numbers in [low, 1], and a label."""
    return Schema.from_dict(
        {
            "code": {"kind": "vector", "type": f"fixed_size_list<float>[{k}]", "low": low, "high": 1},
            "label": {"kind": "label", "type": "string", "values": [str(c) for c in range(CLASSES)]},
        }
    )  # fmt: skip


def strokes(n: int, rng: np.random.Generator) -> F32:
    """n pictures (n, 784) of one to three cubic curves of random width."""
    t = np.linspace(0, 1, 24)[:, None]
    basis = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3], 1)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(
        -1, 2
    )
    many = rng.integers(1, 4, n)
    nearest = np.full((n, D), np.inf)
    for j in range(3):
        drawn = many > j
        corners = rng.uniform(3.5, SIDE - 3.5, (int(drawn.sum()), 4, 2))
        curve = np.einsum("tk,bkd->btd", basis, corners)
        square = (curve**2).sum(2)[:, :, None] + (grid**2).sum(1) - 2 * curve @ grid.T
        nearest[drawn] = np.minimum(nearest[drawn], square.min(1))
    width, soft = rng.uniform(0.8, 2.0, (n, 1)), rng.uniform(0.35, 0.7, (n, 1))
    inside = (width - np.sqrt(np.maximum(nearest, 0))) / soft
    return (1 / (1 + np.exp(-np.clip(inside, -30, 30)))).astype(np.float32)


def shapes(n: int, rng: np.random.Generator) -> F32:
    """n pictures (n, 784) of one to six superellipses, half of them mirrored."""
    v, u = np.meshgrid(*[np.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    many = rng.integers(1, 7, (n, 1, 1))
    image = np.zeros((n, SIDE, SIDE))

    def any_of(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, (n, 1, 1))

    for j in range(6):
        x, y, turn = u - any_of(-9, 9), v - any_of(-9, 9), any_of(0, np.pi)
        x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        a, b = np.exp(any_of(np.log(1.5), np.log(14))), np.exp(any_of(np.log(1.5), np.log(14)))
        power = np.exp(any_of(np.log(1.2), np.log(8)))
        beyond = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power) - 1
        edge = np.clip(beyond * np.minimum(a, b) / any_of(0.2, 0.6), -30, 30)
        cover = (many > j) / (1 + np.exp(edge))
        slope = any_of(-0.4, 0.4) * x / 14 + any_of(-0.4, 0.4) * y / 14
        wave = np.sin(any_of(0.3, 2.5) * x + any_of(0, 2.5) * y + any_of(0, 2 * np.pi))
        striped, hole = rng.random((n, 1, 1)) < 0.4, rng.random((n, 1, 1)) < 0.2
        grey = np.clip(any_of(0, 1) + slope + striped * any_of(0, 0.4) * wave, 0, 1)
        image = image * (1 - cover) + np.where(hole, 0.0, grey) * cover
    half = SIDE // 2
    mirrored = rng.random(n) < 0.5
    image[mirrored, :, half:] = image[mirrored, :, half - 1 :: -1]
    return image.reshape(n, D).astype(np.float32)


def drawn_pictures(n: int, seed: int) -> F32:
    """n pictures, half strokes and half shapes."""
    rng = np.random.default_rng(seed)
    kinds: tuple[Callable[[int, np.random.Generator], F32], ...] = (strokes, shapes)
    return np.concatenate([kind(BLOCK, rng) for kind in kinds for _ in range(n // 2 // BLOCK)])


class Autoencoder(nn.Module):
    """Two convolutions either way, `k` codes of mean zero and variance one on what it is trained on."""

    def __init__(self, k: int, channels: int = 16) -> None:
        super().__init__()
        c, wide = channels, 2 * channels * (SIDE // 4) ** 2
        self.enter = nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)), nn.Conv2d(1, c, 5, 2, 2), nn.SiLU(), nn.Conv2d(c, 2 * c, 5, 2, 2),
            nn.SiLU(), nn.Flatten(), nn.Linear(wide, k), nn.BatchNorm1d(k, affine=False),
        )  # fmt: skip
        self.leave = nn.Sequential(
            nn.Linear(k, wide), nn.SiLU(), nn.Unflatten(1, (2 * c, SIDE // 4, SIDE // 4)),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(c, 1, 4, 2, 1), nn.Flatten(),
        )  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """The frozen encoder: (n, 784) in [0, 1] to codes (n, k) in [-1, 1] and back."""

    k: int
    model: Autoencoder

    @classmethod
    def trained(
        cls, k: int = 64, steps: int = 3000, seed: int = 0, pictures: int = 60_000
    ) -> "Drawn":
        """Train it, or take it from the cache; noise on the codes keeps what is near in them alike."""
        path = cache() / f"drawn-{k}-{steps}-{seed}-{pictures}.safetensors"
        if path.exists():
            held = Autoencoder(k)
            held.load_state_dict(load_file(path))
            return cls(k, held.eval())
        data = torch.from_numpy(drawn_pictures(pictures, seed))
        torch.manual_seed(seed)
        model = Autoencoder(k)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
        for _ in range(steps):
            x = data[torch.randint(len(data), (128,))]
            code = model.enter(x)
            made = model.leave(code + 0.3 * torch.randn_like(code))
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(made, x).backward()
            optimizer.step()
            schedule.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
        return cls(k, model.eval())

    @property
    def schema(self) -> Schema:
        return schema_of(self.k)

    def encode(self, x: F32) -> F32:
        return _through(lambda b: self.model.enter(b).clamp(-REACH, REACH) / REACH, x)

    def decode(self, code: F32) -> F32:
        return _through(lambda b: self.model.leave(REACH * b).sigmoid(), code)


@dataclass(frozen=True)
class Pixels:
    """No encoder: what DP-MERF (Harder et al. 2021) takes features of."""

    k: int = D

    @property
    def schema(self) -> Schema:
        return schema_of(self.k, 0.0)

    def encode(self, x: F32) -> F32:
        return x

    def decode(self, code: F32) -> F32:
        return (code + 1) / 2


def _through(call: Callable[[Tensor], Tensor], x: F32) -> F32:
    with torch.inference_mode():
        parts = [call(b) for b in torch.from_numpy(np.ascontiguousarray(x)).split(BLOCK)]
    return torch.cat(parts).numpy()
