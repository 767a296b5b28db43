"""The kernel scale from a pilot sketch: how narrow the features of the stream's law are.

The modulus of the sketch falls with the radius of the frequency as the law's narrowest parts let
it. For a mixture of Gaussians of within-cluster deviation ``s`` the squared modulus, averaged over
directions, falls as ``exp(-s^2 r^2)`` once the radius resolves the clusters (Keriven et al. 2018,
section 3.3.3 fit the same curve to the largest modulus of each ring; that is biased upwards by the
maximum of noisy values). A pilot snapshot of a few thousand rows is enough, and private ones do.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, PrivacyError

if TYPE_CHECKING:
    from streamsketch.decode.target import Target
    from streamsketch.snapshot import Snapshot


__all__ = ["PilotScale", "pilot_scale", "scale_of"]

# A ring is used when its mean squared modulus is this many times what noise alone would leave.
SIGNIFICANT = 4.0


@dataclass(frozen=True)
class PilotScale:
    """A kernel scale read off a pilot sketch.

    Attributes:
        scale: Typical deviation of the law's narrow parts, a length in encoded space. Pass it as
            ``scale=`` with the law ``adapted_radius``.
        error: Standard error of ``scale``, from the spread of the rings.
        radii: ``(B,)`` mean frequency radius of each ring.
        modulus: ``(B,)`` root mean squared modulus of the sketch in each ring, errors removed.
        used: ``(B,)`` which rings the slope was read from.
    """

    scale: float
    error: float
    radii: F64
    modulus: F64
    used: NDArray[np.bool_]


def pilot_scale(pilot: "Snapshot | Target", rings: int = 24) -> PilotScale:
    """Estimate the kernel scale from a pilot sketch.

    The mean squared modulus of each ring of frequencies is freed of sampling error and of the
    release's noise, then ``log`` of it is regressed on the squared radius over the outer half of
    the rings that stand out of their error. The slope is minus the squared scale.

    Args:
        pilot: A snapshot (or target) whose frequencies span many radii, as the default law
            ``multiscale`` does; the rows of a few thousand are enough.
        rings: Number of rings, of equal numbers of frequencies.

    Raises:
        ConfigError: The frequencies are too few, or the sketch does not fall with the radius: all
            frequencies are too low, or too high, for this stream.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> rng = np.random.default_rng(0)
        >>> s = Sketcher(Schema.vectors(4, -1, 1), frequencies=600, seed=3)
        >>> s.learn_many(rng.choice([-0.5, 0.5], (5000, 4)) + 0.08 * rng.normal(size=(5000, 4)))
        >>> bool(abs(pilot_scale(s.release()).scale - 0.08) < 0.01)
        True
    """
    from streamsketch.decode.target import as_target

    target = as_target(pilot)
    if rings < 4 or target.m < 8 * rings:
        raise ConfigError(
            f"{target.m} frequencies cannot fill {rings} rings of 8; sketch the pilot with at "
            f"least {8 * max(rings, 4)} frequencies"
        )
    radius = np.sqrt((target.omega**2).sum(axis=0))
    order = np.argsort(radius)
    square = np.abs(target.z) ** 2
    # E|z|^2 exceeds |phi|^2 by the sampling error and by the noise on both parts
    square = square - (1 - np.minimum(square, 1.0)) / target.count - 2 * target.noise_std**2
    groups = np.array_split(order, rings)
    radii2 = np.array([(radius[g] ** 2).mean() for g in groups])
    means = np.array([square[g].mean() for g in groups])
    errors = np.array([square[g].std() / np.sqrt(len(g)) for g in groups])
    lost = means < SIGNIFICANT * target.floor / target.m / np.sqrt(target.m / rings)
    # beyond two rings lost in noise, a later one stands out only by chance
    pairs = np.flatnonzero(lost & np.append(lost[1:], True))
    last = int(pairs[0]) if len(pairs) else rings
    used = (np.arange(rings) < last) & ~lost
    if last >= 6:
        used &= radii2 >= radii2[last - 1] * 0.15
    if used.sum() < 3:
        raise ConfigError(
            "the pilot sketch is lost in noise at nearly every frequency: its frequencies are too "
            "high for this stream; sketch it with a larger scale, or with more rows"
        )
    slope, error = _weighted_slope(radii2[used], np.log(means[used]), errors[used] / means[used])
    if not slope < -2 * error or means[used].min() > 0.9:
        raise ConfigError(
            "the pilot sketch does not fall with the radius of its frequencies: they are too low "
            "for this stream; sketch it with a smaller scale"
        )
    scale = float(np.sqrt(-slope))
    return PilotScale(
        scale, float(error / (2 * scale)), np.sqrt(radii2), np.sqrt(np.maximum(means, 0.0)), used
    )


def scale_of(
    scale: "float | Snapshot | str | os.PathLike[str]", private: bool, folder: Path = Path()
) -> float:
    """A kernel scale: the number itself, or what a released pilot snapshot (or its file) says.

    The pilot is public, or paid for by its own release; its scale is rounded to three digits, so
    that the operator's fingerprint does not depend on the machine that read it.

    Args:
        scale: A length, a snapshot, or the path of one.
        private: Whether the sketch to come is.
        folder: Where relative paths begin.

    Raises:
        ConfigError: The pilot says nothing about the scale.
        PrivacyError: The pilot was released without privacy and the sketch is to be private.
        StoreError: The pilot's file cannot be read.
    """
    if isinstance(scale, int | float):
        return float(scale)
    from streamsketch.snapshot import Snapshot

    pilot = scale if isinstance(scale, Snapshot) else Snapshot.load(folder / scale)
    found = float(f"{pilot_scale(pilot).scale:.3g}")
    if private and not pilot.release.private:
        raise PrivacyError(
            "the pilot snapshot was released without privacy, and the sketch is private; release the "
            f"pilot with a mechanism too, or write scale = {found} where its rows are public"
        )
    return found


def _weighted_slope(x: F64, y: F64, error: F64) -> tuple[float, float]:
    """Slope of a weighted straight line, and its standard error from the residuals."""
    weight = 1 / (error**2 + 0.05**2)
    weight /= weight.sum()
    x = x - weight @ x
    slope = float(weight @ (x * y) / (weight @ x**2))
    residual = y - weight @ y - slope * x
    variance = float(weight @ residual**2) / max(len(x) - 2, 1)
    return slope, float(np.sqrt(variance / (weight @ x**2)))
