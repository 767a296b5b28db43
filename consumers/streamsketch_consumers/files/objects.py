"""Files of JSON objects without a schema: which keys there are, and what their values are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamsketch.errors import ConfigError, DataError
from streamsketch.schema.columns import arrow_type
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import array_of
from streamsketch_consumers.decode.text import object_of
from streamsketch_consumers.decode.values import values_of
from streamsketch_consumers.files.formats import partition
from streamsketch_consumers.files.infer import TextColumn, dialects
from streamsketch_consumers.files.records import open_text

__all__ = ["objects_survey"]

BLOCK = 8192
NONE = type(None)


def objects_survey(
    files: Iterable[tuple[str, Path]],
    settings: Mapping[str, Any],
    types: Mapping[str, str],
    add: Any,
) -> tuple[dict[str, pa.DataType], dict[str, str]]:
    """The types of all keys, and why a key has none; the rows go to `add`, typed.

    Two passes: what a value is must be known of all before the first is typed.

    Args:
        files: Names and paths.
        settings: Of the file source: the encoding.
        types: Types that are given, by key.
        add: Takes batches of rows.

    Raises:
        DataError: There is no object in the files.
    """
    files = list(files)
    encoding = str(settings.get("encoding", "utf-8"))
    unwrap = str(settings.get("unwrap", ""))
    fields = _fields(files, encoding, unwrap)
    if not fields:
        raise DataError(
            f"Cannot read {str(files[0][1])!r} as JSON lines: no line holds one object; write one object "
            "a line (of an array, with jq -c '.[]')"
        )
    found = {key: _type(field, types.get(key)) for key, field in fields.items()}
    left_out = {key: kind for key, kind in found.items() if isinstance(kind, str)}
    kinds = {key: kind for key, kind in found.items() if not isinstance(kind, str)}
    for name, path in files:
        folders = partition(name)
        for block in _blocks(path, encoding, unwrap):
            arrays = []
            for key, kind in kinds.items():
                if fields[key].folder:
                    text = pa.array([folders.get(key)] * len(block), pa.string())
                    arrays.append(array_of(text, Reading(kind, kind))[0])
                else:
                    arrays.append(values_of([r.get(key) for r in block], Reading(kind, kind))[0])
            add.add(pa.RecordBatch.from_arrays(arrays, names=list(kinds)))
    return kinds, left_out


def _fields(files: Iterable[tuple[str, Path]], encoding: str, unwrap: str) -> "dict[str, Field]":
    """What the values of each key are, of objects and of folders."""
    fields: dict[str, Field] = {}
    for name, path in files:
        for block in _blocks(path, encoding, unwrap):
            for key in dict.fromkeys(key for record in block for key in record):
                fields.setdefault(key, Field()).look([record.get(key) for record in block])
        for key, value in partition(name).items():
            fields.setdefault(key, Field(folder=True)).look([value])
    return fields


def _type(field: "Field", asked: str | None) -> pa.DataType | str:
    """The type of a key, or why it has none."""
    if asked is None:
        return field.type()
    try:
        return arrow_type(asked)
    except ValueError as e:
        raise ConfigError(str(e)) from None


class Field:
    """What the values of one key are."""

    def __init__(self, folder: bool = False) -> None:
        self.folder = folder
        self._kinds: set[type] = set()
        self._text = TextColumn(dialects(",")[:1], numbers=folder)
        self._sizes: set[int] = set()
        self._inner: set[type] = set()
        self._most = 0

    def look(self, values: list[Any]) -> None:
        """Consider more values."""
        kinds = set(map(type, values)) - {NONE}
        self._kinds |= kinds
        if str in kinds:
            self._text.look(pa.array([v for v in values if type(v) is str], pa.string()))
        if list in kinds:
            for value in values:
                if type(value) is list:
                    self._sizes.add(len(value))
                    self._inner |= set(map(type, value))
        if int in kinds:
            self._most = max(self._most, *(abs(v) for v in values if type(v) is int))

    def type(self) -> pa.DataType | str:
        """The Arrow type of the values, or why there is none."""
        kinds = self._kinds
        if not kinds:
            return "it holds no value"
        if kinds == {bool}:
            return pa.bool_()
        if kinds == {int} and self._most < 2**63:
            return pa.int64()
        if int in kinds and self._most >= 2**63:
            return "whole numbers beyond 64 bits: identifiers mostly"
        if kinds <= {int, float}:
            return pa.float64()
        if kinds == {str}:
            return self._text.type(0)
        if kinds == {list}:
            if len(self._sizes) == 1 and self._sizes != {0} and self._inner <= {int, float}:
                return pa.list_(pa.float64(), next(iter(self._sizes)))
            return "its lists are not numbers of one length"
        if kinds == {dict}:
            return "its values are objects; flatten them, or name the one to read with unwrap"
        return f"its values are of several types ({', '.join(sorted(k.__name__ for k in kinds))})"


def _blocks(path: Path, encoding: str, unwrap: str) -> Iterator[list[dict[str, Any]]]:
    """The objects of a file, some at a time; lines that hold none are passed over."""
    block: list[dict[str, Any]] = []
    with open_text(path, encoding) as stream:
        for line in stream:
            try:
                record = object_of(line.removeprefix(b"\xef\xbb\xbf")) if line.strip() else None
            except ValueError:
                continue
            for name in unwrap.split(".") if unwrap else ():
                record = record.get(name) if isinstance(record, dict) else None
            if isinstance(record, dict):
                block.append(record)
            if len(block) == BLOCK:
                yield block
                block = []
    if block:
        yield block
