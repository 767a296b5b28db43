"""Whether a generator is any good, in one line, from what its training measured."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["verdict"]

GOOD, FAIR = 3.0, 30.0  # times the floor
USELESS = ("do not use", "drawn independently")
LONGER = "train longer ([trainer] seconds)"


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
    >>> verdict({"steps": 9, "heldout": 6.7, "floor": 0.01, "useful": False})[1]
    'held-out distance 670.0 times its floor, no better than noise: train longer ([trainer] seconds)'
    """
    text, useful = metrics.get("verdict"), metrics.get("useful")
    if isinstance(text, str):
        # what was written before it was marked says so in words
        marked = useful if useful is not None else not any(word in text for word in USELESS)
        return bool(marked), text
    # no steps from a generator that was good leave a good one
    if metrics.get("steps") == 0 and not useful:
        return False, f"trained for 0 steps, so its rows are noise: {LONGER}"
    heldout, floor = metrics.get("heldout"), metrics.get("floor")
    if not _known(heldout) or not _known(floor) or not floor:
        return useful is not False, "its held-out distance is not known"
    assert heldout is not None
    times = max(heldout, 0.0) / floor
    said = f"held-out distance {times:.1f} times its floor"
    if useful is False:
        return False, f"{said}, no better than noise: {LONGER}"
    if times <= GOOD:
        return True, f"{said}: as good as the sketch can tell"
    if times <= FAIR:
        return True, f"{said}: fair; {LONGER} for better"
    return True, f"{said}: poor; {LONGER}, or take more frequencies"


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
