"""What a user names on the command line: a store, a pipeline file, a checkpoint, a decoder of theirs."""

import re
import sys
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from streamsketch.errors import ConfigError, StoreError
from streamsketch.run.config import load
from streamsketch.storage.store import Store

if TYPE_CHECKING:
    from streamsketch.latent import LatentModel

__all__ = ["has_history", "history_path", "is_file", "open_generator", "open_store"]


def is_file(name: str) -> bool:
    """Whether one file of a store is named, and not a store."""
    return name.endswith(".safetensors")


def has_history(name: str) -> bool:
    """Whether a store is named, which keeps a history of its own."""
    return not is_file(name) and not _is_object(name)


def open_store(name: str) -> Store:
    """The store of a folder, a URL, or a pipeline file.

    Raises:
        ConfigError: There is none.
    """
    if name.endswith(".toml"):
        return load(name).store()
    store = Store(name)
    if not store.fs.exists(store.root):
        raise ConfigError(
            f"There is no store at {name!r}; give the folder that [store] path names, its "
            "pipeline file, or run the pipeline first"
        )
    return store


def open_generator(name: str) -> "tuple[str, LatentModel]":
    """The newest sound checkpoint of a store, the one in a file, or a decoder of the user's own.

    Returns:
        Its name, and the model.

    Raises:
        StoreError: There is none.
        ConfigError: What a package's name stands for is no latent model.
    """
    from streamsketch.generator import Generator

    if _is_object(name):
        return name, _imported(name)
    if is_file(name):
        return name, Generator.load(name)
    store = open_store(name)
    newest = store.checkpoints.newest(Generator.from_bytes)
    if newest is None:
        raise StoreError(
            f"The store {store.url} has no checkpoint yet; train one with `streamsketch train`"
        )
    return newest


def history_path(name: str) -> str:
    """The history that the pipeline's own sampler keeps: no row is drawn twice by either."""
    return name if is_file(name) else str(open_store(name).history)


def _is_object(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def _imported(name: str) -> "LatentModel":
    """The latent model that `package.module:name` is, or makes when called; the folder counts."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            f"{name} cannot be imported ({e}); name a module on the path and what is in it"
        ) from None
    model = found() if callable(found) and not hasattr(found, "decode_latent") else found
    if not hasattr(model, "decode_latent"):
        raise ConfigError(
            f"{name} is a {type(model).__name__}; give a streamsketch.generator.Decoder"
        )
    decoder: LatentModel = model
    return decoder
