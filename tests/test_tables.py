"""Tables become checked values: every mistake is told, and what is right is kept as it was written."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt
from hypothesis import given
from hypothesis import strategies as st

from streamsketch.errors import ConfigError
from streamsketch.tables import checked, key, placed, read, rest, takes


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, Ge(1)] = 1


@dataclass(frozen=True)
class Outer:
    path: str | tuple[str, ...] = key(location=True)
    count: Annotated[int, Ge(1)] = 3
    pace: Annotated[float, Gt(0)] | None = None
    mode: Literal["a", "b"] = "a"
    inner: str | Inner | None = None
    password: str | None = field(default=None, repr=False)
    triples: tuple[tuple[str, str], ...] = ()
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode == "b" and self.pace is None:
            raise ConfigError("mode b needs a pace")


RIGHT = {
    "path": st.text() | st.lists(st.text()),
    "count": st.integers(1),
    "pace": st.none() | st.floats(0, exclude_min=True, allow_nan=False) | st.integers(1, 2**53),
    "mode": st.just("a"),
    "inner": st.none() | st.text() | st.fixed_dictionaries({}, optional={"depth": st.integers(1)}),
    "password": st.none() | st.text(),
    "triples": st.lists(st.lists(st.text(), min_size=2, max_size=2)),
    "groups": st.dictionaries(st.text(), st.lists(st.text())),
}
WRONG = {
    "path": st.integers() | st.lists(st.integers(), min_size=1),
    "count": st.integers(max_value=0) | st.booleans() | st.floats() | st.text() | st.none(),
    "pace": st.floats(max_value=0) | st.just(float("nan")) | st.booleans() | st.text(),
    "mode": st.just("c") | st.integers(),
    "inner": st.integers() | st.just({"depth": 0}) | st.just({"width": 1}),
    "password": st.integers() | st.lists(st.text()),
    "triples": st.text() | st.lists(st.text(max_size=1), min_size=1),
    "groups": st.text() | st.lists(st.text(), min_size=1),
}


def frozen(value):
    if isinstance(value, list):
        return tuple(frozen(v) for v in value)
    return {k: frozen(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(
    st.fixed_dictionaries(
        {"path": RIGHT["path"]}, optional={k: RIGHT[k] for k in RIGHT if k != "path"}
    )
)
def test_what_is_right_is_kept_as_it_was_written(table):
    value = checked(Outer, table, "outer")
    for f in fields(Outer):
        found = getattr(value, f.name)
        if f.name not in table:
            assert found == f.default or found == {}
        elif isinstance(table[f.name], dict) and f.name == "inner":
            assert found == Inner(**table[f.name])
        else:
            written = frozen(table[f.name])
            assert found == written and type(found) is type(written)


@given(
    st.sets(st.sampled_from(sorted(RIGHT))).flatmap(
        lambda wrong: st.tuples(
            st.just(wrong),
            st.fixed_dictionaries({k: WRONG[k] if k in wrong else RIGHT[k] for k in RIGHT}),
            st.sets(st.sampled_from(["counts", "zz"])),
        )
    )
)
def test_every_wrong_key_is_told_once_and_no_other(case):
    wrong, table, unknown = case
    mistakes: list[str] = []
    value = read(Outer, {**table, **dict.fromkeys(unknown, 1)}, "t.", mistakes)
    told = sorted(m.split(":")[0].split(".")[1] for m in mistakes)
    assert told == sorted([*wrong, *unknown]) and (value is None) == bool(mistakes)
    assert all(str(table["password"]) not in m for m in mistakes if m.startswith("t.password"))


def test_messages_name_key_value_and_rule():
    mistakes: list[str] = []
    table = {"cuont": 2, "count": 0, "triples": [["a", "b"], ["c"]], "inner": {"depth": 0}}
    read(Outer, table, "t.", mistakes)
    assert mistakes == [
        "t.cuont: unknown key; did you mean count?",
        "t.count: input should be greater than or equal to 1 (found 0)",
        "t.triples.1.1: field required (found ('c',))",
        "t.inner.depth: input should be greater than or equal to 1 (found 0)",
        "t.path: the key is missing",
    ]
    read(Outer, {"path": "p", "zz": 1}, "t.", mistakes := [])
    assert mistakes == [
        "t.zz: unknown key; known are path, count, pace, mode, inner, password, triples, groups"
    ]
    with pytest.raises(ConfigError, match="^outer: mode b needs a pace$"):
        checked(Outer, {"path": "p", "mode": "b"}, "outer")
    for table in (3, None, ["a"], "text"):
        read(Outer, table, "t.", mistakes := [])
        assert mistakes == [f"t: must be a table of keys (found {table!r})"]


def test_a_table_within_a_table_must_be_one():
    @dataclass(frozen=True)
    class Nest:
        inner: Inner = Inner()

    assert checked(Nest, {"inner": {"depth": 2}}, "nest") == Nest(Inner(2))
    read(Nest, {"inner": 3}, "t.", mistakes := [])
    assert mistakes == ["t.inner: must be a table of keys (found 3)"]


def test_numbers_of_numpy_are_numbers():
    assert (
        checked(Outer, {"path": "p", "count": np.int64(4), "pace": np.float32(0.5)}, "o").count
        == 4
    )


def test_a_pipeline_file_has_its_own_defaults_and_folder():
    @dataclass(frozen=True)
    class Sink:
        path: str = key(location=True, pipeline="{store}/x.csv")
        mode: str = key("file", pipeline="parts")

    @dataclass(frozen=True)
    class Table:
        type: str = "file"
        settings: object = rest()

    table = read(Table, {"type": "file", "mode": "one"}, "", [], Path("/f"))
    assert table == Table("file", {"mode": "one"})
    inside = read(Sink, {}, "", [], Path("/f"))
    assert inside == Sink("{store}/x.csv", "parts")
    assert placed(inside, store="/s") == Sink("/s/x.csv", "parts")
    assert (
        placed(read(Sink, {"path": "{store}.csv"}, "", [], Path("/f")), store="/s").path
        == "/f/{store}.csv"
    )
    assert read(Sink, {}, "s.", mistakes := []) is None and mistakes == [
        "s.path: the key is missing"
    ]
    assert read(Sink, {}, "s.", mistakes := [], whole=False) is None and mistakes == []
    assert placed({"path": "{store}"}, store="/s") == {"path": "{store}"}


def test_a_factory_takes_settings_as_a_table_or_checked():
    @takes(Inner, "source 'well'")
    def make(settings: Inner, name: str) -> str:
        """A well."""
        return f"{name} {settings.depth}"

    assert make({"depth": 2}, "a") == make(Inner(2), "a") == "a 2"
    assert make.settings is Inner and make.__doc__ == "A well."
    with pytest.raises(ConfigError, match="source 'well': dpeth: unknown key; did you mean depth"):
        make({"dpeth": 2}, "a")
