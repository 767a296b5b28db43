"""The ledger: what was spent and released, in an append-only chain of hashes.

It lives in the same atomic state file as the sums, the positions and the noise, so that none of
them can be ahead of another; a copy that people can read is written beside it. An entry is
written before the release it describes is seen. Entries hold nothing exact about the data: the
digest of the sums a release was made from is keyed with a secret of the state.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamsketch.errors import PrivacyError, StoreError
from streamsketch.storage.files import write_atomic

if TYPE_CHECKING:
    from streamsketch.storage.store import Store

__all__ = ["Ledger", "LedgerCopy"]

#: Hash before the first entry.
GENESIS = "0" * 64
#: Entries kept in the state; older ones live in the copy and in the chain of hashes.
KEEP = 2000
#: Bytes at the end of the copy that are compared at every release.
TAIL = 1 << 18


@dataclass
class Ledger:
    """Entries in order, each with the hash of the one before.

    Attributes:
        stream: Name of the stream it belongs to.
        anchor: Hash of the entry before the first one that is kept.
        entries: The kept entries; each has n, kind, spent (rho so far, all epochs of the same
            rows), at, prev, hash, and what its kind adds.

    >>> ledger = Ledger("orders")
    >>> ledger.append("open", at="2026-01-01T00:00:00+00:00", charge=0.5)["spent"]
    0.5
    >>> ledger.verify()
    """

    stream: str
    anchor: str = GENESIS
    entries: list[dict[str, Any]] = field(default_factory=list)

    @property
    def head(self) -> str:
        """Hash of the last entry."""
        return str(self.entries[-1]["hash"]) if self.entries else self.anchor

    @property
    def length(self) -> int:
        """How many entries were ever written."""
        return int(self.entries[-1]["n"]) + 1 if self.entries else 0

    @property
    def spent(self) -> float:
        """Budget spent so far (rho)."""
        return float(self.entries[-1]["spent"]) if self.entries else 0.0

    def append(self, kind: str, *, at: str, charge: float = 0.0, **facts: Any) -> dict[str, Any]:
        """Write one more entry.

        Args:
            kind: "open", "query" or "release".
            at: ISO time; a clock that went backwards is recorded as such and changes nothing.
            charge: rho to add to what was spent; never negative.
            **facts: What else to record, JSON values.

        Raises:
            PrivacyError: If the charge is negative: there are no refunds.
        """
        if not charge >= 0.0:
            raise PrivacyError(
                f"a ledger entry of kind {kind!r} has charge {charge!r}; a ledger only adds up, "
                "there are no refunds: charge 0 or more"
            )
        if self.entries and at < str(self.entries[-1]["at"]):
            facts["clock_went_back_to"], at = at, str(self.entries[-1]["at"])
        entry: dict[str, Any] = {
            "n": self.length,
            "kind": kind,
            "stream": self.stream,
            "at": at,
            "charge": charge,
            "spent": self.spent + charge,
            **facts,
            "prev": self.head,
        }
        entry["hash"] = _hash(entry)
        self.entries.append(entry)
        if len(self.entries) > KEEP:
            self.anchor = str(self.entries[0]["hash"])
            del self.entries[0]
        return entry

    def copy(self) -> "Ledger":
        """The same entries, to append to."""
        return Ledger(self.stream, self.anchor, list(self.entries))

    def last(self, kind: str) -> dict[str, Any] | None:
        """The latest kept entry of a kind."""
        return next((e for e in reversed(self.entries) if e["kind"] == kind), None)

    def verify(self) -> None:
        """Check the chain.

        Raises:
            PrivacyError: If an entry was edited, removed, moved or belongs to another stream.
        """
        _check_chain(self.stream, self.anchor, self.entries)

    def check_position(self, epoch: Any, index: Any) -> None:
        """Compare with where the noise stands.

        Raises:
            PrivacyError: If the last release is not the one before `index` of `epoch`.
        """
        last = self.last("release")
        at = (int(last["epoch"]), int(last["index"]) + 1) if last else (0, 0)
        if at != (epoch, index):
            raise PrivacyError(
                f"the ledger of stream {self.stream!r} ends after epoch {at[0]}, release {at[1]} but "
                f"the noise after epoch {epoch}, release {index}; they are not of one state: restore "
                "it from a backup that is not older"
            )

    def check_release(self, name: str) -> None:
        """Compare with a kept release.

        Raises:
            PrivacyError: If the last release is another one.
        """
        last = self.last("release")
        if last is None or last["release"] != name:
            raise PrivacyError(
                f"the release kept in the state of stream {self.stream!r} is not the one in its "
                "ledger; one was edited: restore the state from a backup that is not older"
            )

    def check_copy(self, text: str) -> None:
        """Compare with the copy that people read; it may lag behind but never be ahead.

        Args:
            text: Content of the copy, one JSON entry per line ("" if there is none).

        Raises:
            PrivacyError: If the copy was edited, is of another stream, or holds entries that this
                ledger lacks: then the state is older than what was released, and releasing
                again would spend the same budget twice.
        """
        copied = read_copy(text)
        if not copied:
            return
        _check_chain(self.stream, str(copied[0].get("prev")), copied)
        if int(copied[-1]["n"]) >= self.length:
            raise PrivacyError(
                f"the ledger copy of stream {self.stream!r} has {int(copied[-1]['n']) + 1} entries "
                f"but the state has {self.length}: the state is older than what was released; "
                "restore the newest state, or start a new stream name with rows not used before"
            )
        mine = {e["n"]: e["hash"] for e in self.entries}
        for entry in copied:
            if mine.get(entry["n"], entry["hash"]) != entry["hash"]:
                raise PrivacyError(
                    f"entry {entry['n']} of the ledger copy of stream {self.stream!r} differs from "
                    "the state; one of the two was edited: restore both from the same backup"
                )

    def lines(self, start: int = 0) -> str:
        """Entries from number ``start`` on as JSON lines, for the copy."""
        return "".join(
            json.dumps(e, sort_keys=True) + "\n" for e in self.entries if int(e["n"]) >= start
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready state."""
        return {"stream": self.stream, "anchor": self.anchor, "entries": list(self.entries)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any], stream: str) -> "Ledger":
        """Read what `to_dict` gave and check it.

        Raises:
            PrivacyError: If it is unreadable, edited, or of another stream.
        """
        try:
            entries = [dict(entry) for entry in body["entries"]]
            ledger = cls(str(body["stream"]), str(body["anchor"]), entries)
        except (KeyError, TypeError, ValueError) as error:
            raise PrivacyError(
                f"the ledger of stream {stream!r} is unreadable ({error!r}); without it nothing may "
                "be released: restore the state from a backup that is not older"
            ) from error
        if ledger.stream != stream:
            raise PrivacyError(
                f"the ledger is of stream {ledger.stream!r}, not {stream!r}; a budget belongs to "
                "one stream: restore the right state"
            )
        ledger.verify()
        return ledger


class LedgerCopy:
    """The copy of a ledger that people read: ``ledger.jsonl`` in the store, one entry per line.

    Args:
        store: The store; local ones are appended to, remote ones written anew.
    """

    def __init__(self, store: "Store") -> None:
        self._fs, self._path, self._local = store.fs, store.path("ledger.jsonl"), store.local

    def text(self, tail: int | None = None) -> str:
        """The copy, or the whole lines within its last `tail` bytes; "" if there is none."""
        try:
            size = int(self._fs.size(self._path))
            start = 0 if tail is None else max(0, size - tail)
            data: bytes = self._fs.cat_file(self._path, start=start)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StoreError(f"cannot read the ledger copy {self._path}: {error}") from None
        text = data.decode(errors="replace")
        return text.split("\n", 1)[-1] if start else text

    def check(self, ledger: Ledger) -> None:
        """Refuse where the copy knows more than the state, or something else (its last part).

        Raises:
            PrivacyError: As `Ledger.check_copy`.
        """
        ledger.check_copy(self.text(TAIL))

    def extend(self, ledger: Ledger) -> None:
        """Add the entries that are missing."""
        text = self.text(TAIL)
        copied = read_copy(text)
        missing = ledger.lines(int(copied[-1]["n"]) + 1 if copied else 0).encode()
        try:
            if self._local and (not text or text.endswith("\n")):
                with Path(self._path).open("ab") as file:
                    file.write(missing)
                    file.flush()
                    os.fsync(file.fileno())
                return
            # A torn last line is dropped: its entry is among the missing ones.
            whole = self.text()
            data = whole[: whole.rfind("\n") + 1].encode() + missing
            if self._local:
                write_atomic(self._path, data)
            else:
                self._fs.pipe_file(self._path, data)
        except OSError as error:
            raise StoreError(f"cannot write the ledger copy {self._path}: {error}") from None


def read_copy(text: str) -> list[dict[str, Any]]:
    """The entries of a ledger copy.

    A last line without an end is a write that a crash cut short: its entry is in the state.

    Raises:
        PrivacyError: If any other line is not a JSON entry.
    """
    entries = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            entry = json.loads(line)
            int(entry["n"]), entry["hash"], entry["prev"]
        except (ValueError, KeyError, TypeError) as error:
            raise PrivacyError(
                f"line {number} of the ledger copy is not an entry; the copy was damaged or edited: "
                "restore it from a backup"
            ) from error
        entries.append(entry)
    return entries


def _hash(entry: Mapping[str, Any]) -> str:
    body = {k: v for k, v in entry.items() if k != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _check_chain(stream: str, anchor: str, entries: Sequence[Mapping[str, Any]]) -> None:
    head, number = anchor, None
    for entry in entries:
        try:
            broken = (
                entry["prev"] != head
                or entry["hash"] != _hash(entry)
                or (number is not None and entry["n"] != number + 1)
                or (head == GENESIS) != (entry["n"] == 0)
            )
            foreign = entry["stream"] != stream
            head, number = entry["hash"], entry["n"]
        except KeyError:
            broken, foreign = True, False
        if broken or foreign:
            what = f"is of stream {entry.get('stream')!r}" if foreign else "does not fit the chain"
            raise PrivacyError(
                f"entry {entry.get('n')!r} of the ledger of stream {stream!r} {what}: the ledger was "
                "edited, cut or mixed up, so nothing may be released; restore it from a backup"
            )
