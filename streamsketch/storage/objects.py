"""Records in an object store that several machines reach: S3, Google Cloud Storage, Azure, MinIO ...

A write names the version that it replaces, and the store refuses it where another was faster (HTTP's
`If-Match` and `If-None-Match`, or a generation match). That is all the fencing there is: no lock, no
lease, no clock. A process that froze and wakes up holds an old version, so that its write is refused.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, cast

from streamsketch.errors import ConfigError, FencedError, StoreError
from streamsketch.plain import first_line
from streamsketch.storage.records import Update, Version

__all__ = ["SCHEMES", "ObjectRecords"]

#: Schemes of URLs that conditional writes exist for.
SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")

VERSION_SECONDS = 1.0  # a version is asked for so often at most
RETRY = {"max_retries": 4, "retry_timeout": timedelta(seconds=15)}


class ObjectRecords:
    """Records behind a URL, changed by conditional writes.

    Args:
        url: Such as `s3://bucket/secret/flights`. Who may read it sees raw sums: give the bucket a
            policy like that of the rows. Credentials and endpoint are read from the environment
            (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` ...).

    Raises:
        ConfigError: No such store, or one that takes writes without regard to their condition:
            with two owners of a part the later one would overwrite the earlier.
        StoreError: The store does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = _opened(self.url)
        self._seen: dict[str, tuple[float, Version | None]] = {}
        self._probe()

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, in order."""
        import obstore

        with self._answering("list", folder):
            found = [o["path"] for page in obstore.list(self._store, folder) for o in page]
        return sorted(name for name in found if name.endswith(".safetensors"))

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """A record and its version; None where there is none."""
        import obstore

        with self._answering("read", name):
            try:
                found = obstore.get(self._store, name)
                return bytes(found.bytes()), _version(found.meta)
            except FileNotFoundError:
                return None

    def version(self, name: str) -> Version | None:
        """The version of a record, as of a second ago at most; None where there is none."""
        import obstore

        now = time.monotonic()
        asked, seen = self._seen.get(name, (-VERSION_SECONDS, None))
        if now - asked < VERSION_SECONDS:
            return seen
        with self._answering("read", name):
            try:
                seen = _version(obstore.head(self._store, name))
            except FileNotFoundError:
                seen = None
        self._seen[name] = (now, seen)
        return seen

    def change(self, name: str, update: Update) -> None:
        """Replace a record; where another process was faster, read it again and try again."""
        while True:
            data, version = self.read(name) or (None, None)
            if self._write(name, update(data), version):
                return

    def put(self, name: str, data: bytes, version: Version | None) -> None:
        """Write a record of which `version` was read (None: there was none).

        Raises:
            FencedError: Another process has written it since.
        """
        if self._write(name, data, version):
            return
        # an answer may be lost on its way, and the store be asked again by the client
        found = self.read(name)
        if found is None or found[0] != data:
            raise FencedError(
                f"{self.where(name)} was written by another process since it was read; start again"
            )

    def where(self, name: str) -> str:
        """Its URL."""
        return f"{self.url}/{name}"

    def hold(self, name: str, what: str) -> int:
        """Refused: no lock dies with its process here."""
        raise ConfigError(
            f"{what} has no broker that gives it to one reader at a time, and {self.url} has no locks that end "
            "with their process; read it through Kafka, or remove shared from [store]"
        )

    def alone(self, what: str) -> None:
        """Refuse what needs that one machine orders all changes."""
        raise ConfigError(
            f"{what} needs locks of one machine, which {self.url} has not; remove it, or remove shared "
            "from [store]"
        )

    def settled(self, name: str, alone: bool) -> AbstractContextManager[None]:
        """Nothing is ever changed by everybody at once; see `alone`."""
        if alone:
            self.alone("[windows]")
        return nullcontext()

    def releasing(self, wait: bool) -> AbstractContextManager[bool]:
        """Everybody may try: of two that release the same state one is refused, before it is seen."""
        return nullcontext(True)

    def identity(self, fresh: bool) -> str:
        """The time of creation of an object that nobody ever touches again, and its random content.

        A copy has another time; it is not made anew, so that two that begin agree on it.
        """
        import obstore

        name = "identity"
        with self._answering("write", name):
            self._write(name, secrets.token_hex(16).encode(), None)
            made = obstore.head(self._store, name)
        return f"{made['last_modified'].isoformat()}-{made['e_tag']}"

    def _write(self, name: str, data: bytes, version: Version | None) -> bool:
        """Whether it was written: only where `version` is what is there."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self._seen.pop(name, None)
        mode: Any = "create" if version is None else dict(version)  # type: ignore[call-overload]
        with self._answering("write", name):
            try:
                obstore.put(self._store, name, data, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

    def _probe(self) -> None:
        """Find out whether conditions are kept: by writes that must be refused."""
        import obstore

        name = f".conditional-{secrets.token_hex(8)}"
        try:
            self._write(name, b"first", None)
            found = self.read(name)
            kept = found is not None and not self._write(name, b"second", None)
            if found is not None and kept:
                kept = self._write(name, b"third", found[1])
                kept = kept and not self._write(name, b"fourth", found[1])
        except NotImplementedError:
            kept = False
        finally:
            with self._answering("write", name):
                obstore.delete(self._store, name)
        if not kept:
            raise ConfigError(
                f"the store {self.url} takes a write whatever its condition (If-None-Match, If-Match) says, so that "
                "two owners of a part could overwrite each other's sums; use one with conditional writes, "
                "or a local state folder"
            )

    @contextmanager
    def _answering(self, what: str, name: str) -> Iterator[None]:
        from obstore.exceptions import BaseError, NotSupportedError

        try:
            yield
        except NotSupportedError as e:
            raise NotImplementedError(str(e)) from None
        except (BaseError, OSError) as e:
            raise StoreError(f"cannot {what} {self.where(name)}: {first_line(e)}") from None


def _opened(url: str) -> Any:
    scheme = url.partition("://")[0]
    if "://" not in url or scheme not in SCHEMES:
        raise ConfigError(
            f"[store] shared = {url!r} is no object store; give a URL that begins with "
            f"{', '.join(f'{s}://' for s in SCHEMES)}"
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise ConfigError(
            f"[store] shared = {url!r} needs obstore; pip install 'streamsketch[objects]'"
        ) from None
    try:
        return cast(Any, from_url)(url, retry_config=RETRY)
    except (BaseError, ValueError) as e:
        raise ConfigError(f"[store] shared = {url!r} cannot be opened: {e}") from None


def _version(meta: Any) -> Version:
    """What a conditional write names: the keys that the store gave."""
    return tuple((key, meta[key]) for key in ("e_tag", "version") if meta.get(key))
