"""What a releaser saves and takes up again: sums seen, memory, noise, ledger.

The state is secret, and is written before the release that it belongs to is shown to anyone. A state
whose operator, promise, ledger or noise does not fit is refused: going on would be a second release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import PrivacyError, StoreError
from streamsketch.privacy.ledger import Ledger
from streamsketch.snapshot import Snapshot

if TYPE_CHECKING:
    from streamsketch.privacy.release import Releaser

__all__ = ["restore_state", "saved_state"]


def saved_state(releaser: Releaser) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and JSON values to resume from; secret."""
    arrays, numbers = releaser.memory.state()
    named = {f"memory.{k}": v for k, v in arrays.items()}
    named["seen"] = releaser.seen
    body: dict[str, Any] = {
        "fingerprint": releaser.features.spec.fingerprint,
        "stream": releaser.stream,
        "mechanism": releaser.mechanism,
        "memory": releaser.memory_text,
        "memory_state": numbers,
        "seen_count": releaser.seen_count,
        "index": releaser.index,
        "released": releaser.released,
        "origins": list(releaser.origins),
    }
    if releaser.private:
        assert releaser.settings is not None
        named |= {f"noise.{k}": v for k, v in releaser._noiser.arrays().items()}
        body |= {
            "epoch": releaser.epoch,
            "settings": releaser.settings.to_dict(),
            "past_variance": releaser._past_variance,
            "buffers": releaser.plan.buffers,
            "key": releaser._key.hex(),
            "ledger": releaser.ledger.to_dict(),
        }
    return named, body


def restore_state(
    releaser: Releaser, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]
) -> None:
    """Take up a saved state.

    Raises:
        StoreError: If the state is of another operator, stream, mechanism or memory.
        PrivacyError: If its budget, ledger or noise is not what the settings and the chain of
            hashes say.
    """
    mine = {
        "fingerprint": releaser.features.spec.fingerprint,
        "stream": releaser.stream,
        "mechanism": releaser.mechanism,
        "memory": releaser.memory_text,
    }
    for key, value in mine.items():
        if body.get(key) != value:
            raise StoreError(
                f"the saved release state has {key} = {body.get(key)!r}, but the pipeline has "
                f"{value!r}; use the pipeline that wrote it, or another store"
            )
    if releaser.private:
        _restore_private(releaser, arrays, body)
    own = {k.removeprefix("memory."): v for k, v in arrays.items() if k.startswith("memory.")}
    releaser.memory.restore(own, body["memory_state"])
    releaser.seen, releaser.seen_count = np.array(arrays["seen"]), body["seen_count"]
    releaser.index = int(body["index"])
    releaser.released = int(body.get("released", releaser.index))
    releaser.origins = tuple(body.get("origins") or releaser.origins)


def _restore_private(
    releaser: Releaser, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]
) -> None:
    assert releaser.settings is not None
    saved, mine = dict(body.get("settings") or {}), releaser.settings.to_dict()
    changed = [k for k in mine if k != "epochs" and saved.get(k) != mine[k]]
    if saved.pop("w_max", 1.0) != 1.0:
        raise PrivacyError(
            f"stream {releaser.stream!r} was started with w_max = other than 1, noise for weights that no row "
            "carries any more; start a new stream for rows not used so far."
        )
    if changed:
        k = changed[0]
        raise PrivacyError(
            f"stream {releaser.stream!r} was started with {k} = {saved.get(k)!r} and the settings "
            f"now say {mine[k]!r}; a promise already given cannot be changed: set it back, or "
            "start a new stream for rows not used so far."
        )
    ledger = Ledger.from_dict(body.get("ledger") or {}, releaser.stream)
    ledger.check_position(body.get("epoch"), body.get("index"))
    # A series fitted by another version of the optimiser would not continue this noise.
    releaser._arm(releaser.plan.with_buffers(body.get("buffers")))
    noise = {k.removeprefix("noise."): v for k, v in arrays.items() if k.startswith("noise.")}
    releaser._noiser.restore(noise)
    if "pending" in arrays:  # the finished snapshot, written ahead by `ingest.publish`
        kept = Snapshot.from_bytes(arrays["pending"].tobytes(), "the kept release")
        ledger.check_release(kept.id)
    releaser.ledger, releaser.epoch = ledger, int(body["epoch"])
    releaser._past_variance = float(body["past_variance"])
    releaser._key = bytes.fromhex(body["key"])
