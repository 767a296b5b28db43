r"""`init = "mixture"`: a generator that begins as the Gaussian mixture decoded from the sketch.

The first latent coordinate chooses a component c by the quantiles of its law, the next d place the
row in it, and the network adds a correction h, which is zero at the start:

.. math:: \mathrm{raw}(z) = \mu_c + \sigma_c (z_{2..d+1} + h_\theta(z, \mu_c))

Means and scales are trained with the network. Latents stay standard normal. No mode that the
mixture has can be dropped, and modes need no bridges, which a network of a continuous latent
cannot do without. The decoded mixture is made of the sketch alone (of the frequencies that are
trained on): post-processing, which costs no privacy budget.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from streamsketch.arrays import F64
from streamsketch.decode import Target
from streamsketch.decode.atoms import DiagonalGaussians
from streamsketch.decode.solve import rough
from streamsketch.features.kernels.loss import sketch_mean
from streamsketch.generator.components import Components
from streamsketch.generator.heads import GAIN
from streamsketch.generator.networks import preset
from streamsketch.generator.neural import Model
from streamsketch.generator.options import NetworkConfig
from streamsketch.schema.columns import Block
from streamsketch.snapshot import Snapshot

__all__ = ["corrects", "decoded", "place", "weigh_again"]

MOST = 64  # components; decoding takes a few seconds
NARROWEST = 0.004  # standard deviation, in encoded length: half the fastest frequency's reach
EDGE = 0.995  # where a mean is taken to be, at most: beyond, tanh has no slope left

ROWS = 256  # drawn from each component to weigh it again
CATEGORIES = ("onehot", "state")
RAREST = 1e-3  # chance of a category in a component


Mixture = tuple[F64, F64, F64]  # means, standard deviations, weights


def decoded(omega: F64, targets: F64, snapshot: Snapshot, seed: int) -> Mixture:
    """Means (K, d), standard deviations (K, d) and weights (classes, K) of a sketch's mixture.

    Args:
        omega: (d, m) frequencies, of those of the snapshot.
        targets: (classes, 2m) mean features at these.
        snapshot: What else a decoder may know.
        seed: Seed of the search.
    """
    d, m = omega.shape
    low = np.full(d, -1.0)
    for block in snapshot.schema.blocks:
        if block.kind in CATEGORIES:
            low[block.slice] = 0.0
    noise = snapshot.release.noise_std * np.sqrt(len(targets)) / snapshot.count
    target = Target.of(
        omega, targets.sum(0), count=snapshot.count, low=low, high=1.0, noise_std=noise
    )
    fit = rough(target, np.random.default_rng(seed), MOST)
    atoms = np.concatenate(DiagonalGaussians(omega).atoms(fit.theta), axis=1)
    return fit.theta[:, :d], np.sqrt(fit.theta[:, d:]), weights_of(atoms, targets)


def weights_of(features: F64, targets: F64) -> F64:
    """Weights (classes, K) that bring components' mean features (K, 2m) nearest to the targets."""
    return np.array([nnls(features.T, z)[0] for z in targets])


def corrects(mixture: Mixture, network: NetworkConfig | str | None, d: int) -> NetworkConfig:
    """The configuration of a network that corrects a mixture's rows of d coordinates."""
    config = network if isinstance(network, NetworkConfig) else preset(network or "residual", d)
    return replace(config, latent=max(config.latent, d + 1), components=len(mixture[0]))


def place(
    components: Components, mixture: Mixture, blocks: Sequence[Block], bounded: bool
) -> None:
    """Set the components so that rows follow the mixture, through a head (`heads.Head`)."""
    means, stds, weights = mixture
    raw, scale = means.copy(), np.maximum(stds, NARROWEST)
    for block in blocks:
        at = block.slice
        if block.kind in CATEGORIES:
            raw[:, at] = np.log(np.clip(means[:, at], RAREST, 1.0)) / GAIN
            scale[:, at] = NARROWEST
        elif block.kind == "numeric" and bounded:
            inside = np.clip(means[:, at], -EDGE, EDGE)
            raw[:, at] = np.arctanh(inside)
            scale[:, at] = np.minimum(scale[:, at] / (1 - inside**2), 1.0)
    with torch.no_grad():
        components.means.copy_(torch.from_numpy(raw))
        components.log_scales.copy_(torch.from_numpy(np.log(scale)))
    components.weigh(weights)


def weigh_again(model: Model, omega: Tensor, targets: Tensor) -> None:
    """Fit the components' weights to a new sketch, which a warm start then goes on from.

    No gradient reaches the weights, and where the stream has moved they are the first thing that
    is wrong.
    """
    assert model.components is not None
    rng = torch.Generator().manual_seed(0)
    weights = []
    with torch.no_grad():
        for k in range(model.classes):
            features = []
            for c in range(len(model.components.means)):
                which = torch.full((ROWS,), c, device=model.device)
                labels = torch.full_like(which, k) if model.conditional else None
                z = model.latents(ROWS, rng)
                raw = model.of_component(which, z, labels)
                y = model.head(raw, model.head.noise(ROWS, rng, model.device), labels)
                features.append(sketch_mean(y, omega).cpu().double().numpy())
            weights.append(
                weights_of(np.array(features), targets[k : k + 1].cpu().double().numpy())[0]
            )
    model.components.weigh(np.array(weights))
