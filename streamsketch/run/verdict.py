"""Whether a generator is any good, in one line, from what its training measured."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["verdict"]

GOOD, FAIR = 3.0, 30.0  # times the floor
USELESS = ("do not use", "drawn independently")


def verdict(metrics: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether its rows may be used, and what its held-out distance means, with what to do.

    Args:
        metrics: What training measured.

    >>> verdict({"steps": 0})
    (False, 'trained for 0 steps, so its rows are noise: train longer ([trainer] seconds)')
    >>> verdict({"steps": 9, "heldout": 0.02, "floor": 0.01})
    (True, 'held-out distance 2.0 times its floor: as good as the sketch can tell')
    >>> verdict({"heldout": 6.7, "floor": 0.01})[1]
    'held-out distance 670.0 times its floor: poor; train longer ([trainer] seconds), or take more frequencies'
    """
    text = metrics.get("verdict")
    if isinstance(text, str):
        return not any(word in text for word in USELESS), text
    if metrics.get("steps") == 0:
        return (
            False,
            "trained for 0 steps, so its rows are noise: train longer ([trainer] seconds)",
        )
    heldout, floor = metrics.get("heldout"), metrics.get("floor")
    if not _known(heldout) or not _known(floor) or not floor:
        return True, "its held-out distance is not known"
    assert heldout is not None
    times = max(heldout, 0.0) / floor
    said = f"held-out distance {times:.1f} times its floor"
    if times <= GOOD:
        return True, f"{said}: as good as the sketch can tell"
    if times <= FAIR:
        return True, f"{said}: fair; train longer ([trainer] seconds) for better"
    more = "train longer ([trainer] seconds), or take more frequencies"
    return True, f"{said}: poor; {more}"


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
