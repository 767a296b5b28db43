"""Networks: latent vectors (n, p) to raw outputs (n, d), which a `Head` activates.

| name | what it is |
|---|---|
| `residual` | pre-norm residual blocks with SiLU: the default |
| `classwise` | `residual`, and a linear map of the latents for each class |
| `mlp` | plain layers with SiLU |
| `cl-gn` | seven layers of ten units, LeakyReLU 0.2, Glorot: the network of Schellekens and Jacques 2020 |
| `conv` | for square images: 7 x 7 (or side / 4) up to the full side by two upsamplings |
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from streamsketch.errors import ConfigError
from streamsketch.generator.options import NetworkConfig

__all__ = ["NETWORKS", "network_of", "normal_latents", "preset"]


def preset(name: str, d: int) -> NetworkConfig:
    """The usual configuration of a network for encoded rows of dimension d.

    >>> preset("cl-gn", 2)
    NetworkConfig(name='cl-gn', latent=10, width=10, depth=7, bounded=False, components=0)
    """
    if name == "cl-gn":
        return NetworkConfig("cl-gn", latent=10, width=10, depth=7, bounded=False)
    if name == "conv":
        return NetworkConfig("conv", latent=32, width=32, depth=2)
    if name in NETWORKS:
        small = d <= 16
        return NetworkConfig(name, latent=8 if small else 32, width=128 if small else 256)
    raise _unknown(name)


def network_of(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """The network that a configuration describes, from `inputs` numbers to d.

    Raises:
        ConfigError: No network has that name.
    """
    if config.name not in NETWORKS:
        raise _unknown(config.name)
    return NETWORKS[config.name](config, inputs, d)


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"network = {name!r} is unknown; choose one of {', '.join(NETWORKS)}")


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.outer(nn.functional.silu(self.inner(self.norm(x))))
        return out


def residual(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """A linear layer, `depth` residual blocks, a norm and a linear output."""
    w = config.width
    blocks = [_Block(w) for _ in range(config.depth - 1)]
    return nn.Sequential(
        nn.Linear(inputs, w), *blocks, nn.LayerNorm(w), nn.SiLU(), nn.Linear(w, d)
    )


class _Classwise(nn.Module):
    """What the classes share, and each class's own mean and linear map: its covariance."""

    def __init__(self, config: NetworkConfig, inputs: int, d: int) -> None:
        super().__init__()
        self.p, self.classes = config.latent, max(inputs - config.latent, 1)
        self.shared = residual(config, inputs, d)
        self.own = nn.Linear(config.latent, self.classes * d)
        nn.init.normal_(self.own.weight, std=0.1 / math.sqrt(config.latent))
        nn.init.zeros_(self.own.bias)

    def forward(self, x: Tensor) -> Tensor:
        own = self.own(x[:, : self.p]).unflatten(1, (self.classes, -1))
        chosen = x[:, self.p :] if self.classes > 1 else torch.ones_like(x[:, :1])
        out: Tensor = self.shared(x) + (chosen.unsqueeze(2) * own).sum(1)
        return out


def classwise(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """A residual network, and a linear map of the latents for each class (one without classes).

    One network has to learn every class's covariance through its nonlinearities; the linear maps
    have it after a few hundred steps.
    """
    return _Classwise(config, inputs, d)


def mlp(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """`depth` hidden layers with SiLU."""
    layers: list[nn.Module] = []
    for k in range(config.depth):
        layers += [nn.Linear(inputs if k == 0 else config.width, config.width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(config.width, d))


def cl_gn(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """The network of Schellekens and Jacques (2020, section 4): LeakyReLU 0.2, Glorot weights, zero biases."""
    layers: list[nn.Module] = []
    for k in range(config.depth):
        linear = nn.Linear(inputs if k == 0 else config.width, config.width)
        layers += [linear, nn.LeakyReLU(0.2)]
    layers.append(nn.Linear(config.width, d))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def doubled(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 5 x 5 convolution of maps whose every pixel is a square of four: (n, c, 2 h, 2 w).

    An output pixel sees 3 x 3 different inputs, however many of the 25 taps fall on each: taps that
    see the same input are summed first, one 3 x 3 kernel for each place in the square of four. The
    same numbers in 2.8 times fewer operations than on the larger map.
    """
    fold = x.new_tensor(
        [[[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
         [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]]
    )  # fmt: skip
    kernels = torch.einsum("pai,ocij,qbj->opqcab", fold, convolution.weight, fold)
    bias = None if convolution.bias is None else convolution.bias.repeat_interleave(4)
    y = nn.functional.conv2d(x, kernels.flatten(0, 2), bias, padding=1)
    return nn.functional.pixel_shuffle(y, 2)


class _Upsampler(nn.Module):
    """A code to a small map, doubled twice by convolutions."""

    def __init__(self, config: NetworkConfig, inputs: int, side: int) -> None:
        super().__init__()
        self.side, self.wide = side // 4, 2 * config.width
        self.enter = nn.Linear(inputs, self.wide * self.side**2)
        self.first = nn.Conv2d(self.wide, config.width, 5, padding=2)
        self.second = nn.Conv2d(config.width, 1, 5, padding=2)
        self.norms = nn.ModuleList([nn.GroupNorm(4, self.wide), nn.GroupNorm(4, config.width)])

    def forward(self, z: Tensor) -> Tensor:
        x = self.enter(z).view(-1, self.wide, self.side, self.side)
        x = nn.functional.silu(self.norms[0](x))
        x = doubled(x, self.first)
        x = nn.functional.silu(self.norms[1](x))
        x = doubled(x, self.second)
        out: Tensor = x.flatten(1)
        return out


class _Image(nn.Module):
    """An upsampler for the d pixels, and a linear output for what else the rows hold."""

    def __init__(self, config: NetworkConfig, inputs: int, d: int, side: int) -> None:
        super().__init__()
        self.pixels = _Upsampler(config, inputs, side)
        rest = d - side * side
        self.rest = mlp(NetworkConfig(width=64, depth=1), inputs, rest) if rest else None

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.pixels(z)
        return image if self.rest is None else torch.cat([image, self.rest(z)], 1)


def conv(config: NetworkConfig, inputs: int, d: int) -> nn.Module:
    """A convolutional decoder; the image must come first in the encoded rows.

    Raises:
        ConfigError: No square image with a side that 4 divides fits d.
    """
    side = math.isqrt(d) // 4 * 4
    if side < 4 or d - side * side > side * side // 4 or config.width % 4:
        raise ConfigError(
            f"network = 'conv' needs rows that are square images with a side that 4 divides, and a width that "
            f"4 divides, but d = {d} and width = {config.width}; use network = 'residual'"
        )
    return _Image(config, inputs, d, side)


NETWORKS: dict[str, Callable[[NetworkConfig, int, int], nn.Module]] = {
    "residual": residual,
    "classwise": classwise,
    "mlp": mlp,
    "cl-gn": cl_gn,
    "conv": conv,
}


def normal_latents(n: int, p: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal latent vectors (n, p), drawn where the generator of numbers lives."""
    return torch.randn((n, p), generator=rng, device=rng.device).to(device)
