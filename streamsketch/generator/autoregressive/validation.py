"""How good a law is, without rows: by the Fourier part of the sketch, which it was never fitted to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.features import ONE, FeatureMap
from streamsketch.generator.autoregressive.law import Law
from streamsketch.generator.autoregressive.targets import Targets
from streamsketch.generator.autoregressive.tilt import drawn
from streamsketch.snapshot import Snapshot

__all__ = ["validated"]

ROWS = 8192  # drawn for it; the distances are unbiased, their noise shrinks with this
FREQUENCIES = 512
GOOD, FAIR = 3.0, 0.1  # times the floor; of the way that independent columns are off


def validated(
    law: Law, theta: F64 | None, snapshot: Snapshot, targets: Targets, seed: int
) -> dict[str, Any]:
    """The held-out distance with its floor, that of independent columns, and what they say in words."""
    codes, within = drawn(law, theta, ROWS, np.random.default_rng(seed + 1))
    rng = np.random.default_rng(seed + 2)
    apart = [rng.permutation(ROWS) for _ in codes]
    shuffled = tuple(np.stack([a[k, p] for k, p in enumerate(apart)]) for a in (codes, within))
    m = snapshot.spec.m
    chosen = np.sort(np.random.default_rng(seed).permutation(m)[:FREQUENCIES])
    target = snapshot.mean.reshape(2, m)[:, chosen]
    features = FeatureMap.from_frequencies(snapshot.features.omega[:, chosen])

    def distance(rows: NDArray[np.float32]) -> float:
        mean = features.sum(rows).reshape(2, -1) / (ONE * len(rows))
        biased = float(np.square(mean - target).sum()) / len(chosen)
        return biased - (1 - float(np.square(mean).sum()) / len(chosen)) / (len(rows) - 1)

    square = float(np.square(target).sum()) / len(chosen)
    n, std = snapshot.count, snapshot.release.noise_std
    figures = {
        "heldout": distance(law.layout.rows(codes, within)),
        "independent": distance(law.layout.rows(*shuffled)),
        "floor": max(1 - square, 0.0) / n + 2 * (std / n) ** 2,
    }
    return figures | {
        "pairs": _pairs(law, targets, codes),
        "useful": _useful(**figures),
        "verdict": verdict(**figures),
    }


def _useful(heldout: float, independent: float, floor: float) -> bool:
    return heldout <= GOOD * floor or heldout < independent


def _pairs(law: Law, targets: Targets, codes: NDArray[np.int32]) -> float:
    """Mean total variation between the rows' pair tables and those that were fitted."""
    v, n = law.layout.variables, codes.shape[1]
    middle = [one.middle_of[c] for one, c in zip(v, codes, strict=True)]
    found = []
    for j, k in law.layout.pairs:
        both = np.bincount(
            middle[j] * v[k].middle + middle[k], minlength=v[j].middle * v[k].middle
        )
        asked = targets.pair(j, k).ravel()
        found.append(0.5 * np.abs(both / n - asked / max(asked.sum(), 1e-300)).sum())
    return float(np.mean(found)) if found else 0.0


def verdict(heldout: float, independent: float, floor: float) -> str:
    """One sentence on a held-out distance."""
    times = f"held-out distance {max(heldout, 0.0) / floor:.1f} times its floor"
    if heldout <= GOOD * floor:
        return f"{times}: good"
    if not _useful(heldout, independent, floor):
        return f"{times}, worse than independent columns: do not use"
    left = heldout / independent
    return f"{times}, {left:.0%} of independent columns': {'fair' if left <= FAIR else 'poor'}"
