"""What is published behind URLs of object stores, where fsspec's own package for them is missing."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.fsspec import FsspecStore

from streamsketch.plain import first_line

__all__ = ["Published"]

Call = Callable[..., Awaitable[Any]]


def _os_errors(method: Call) -> Call:
    """A method that fails as file systems do."""

    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except AlreadyExistsError as e:
            raise FileExistsError(first_line(e)) from None
        except BaseError as e:
            raise OSError(first_line(e)) from None

    return call


class Published(FsspecStore):
    """A file system on obstore that writes what is not there, and nothing else, if asked to."""

    @_os_errors
    async def _pipe_file(  # type: ignore[override]
        self, path: str, value: Any, mode: Any = "overwrite", **_: Any
    ) -> Any:
        bucket, path = self._split_path(path)
        store = self._construct_store(bucket)
        return await store.put_async(path, value, mode=mode)

    _cat_file = _os_errors(FsspecStore._cat_file)  # type: ignore[assignment]
    _rm_file = _os_errors(FsspecStore._rm_file)  # type: ignore[assignment]
    _info = _os_errors(FsspecStore._info)  # type: ignore[assignment]
    _ls = _os_errors(FsspecStore._ls)  # type: ignore[assignment]
