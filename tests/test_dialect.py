"""One dialect in all files: how errors end, and no postponed annotations."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [f for room in ("streamsketch", "consumers") for f in sorted((ROOT / room).rglob("*.py"))]


def endings(node: ast.expr) -> Iterator[str]:
    """The texts that a message may end with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from endings(node.values[-1])
    elif isinstance(node, ast.BinOp):
        yield from endings(node.right)
    elif isinstance(node, ast.IfExp):
        yield from (*endings(node.body), *endings(node.orelse))


def messages(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield node.exc.args[0]
        named = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if named and node.targets[0].id == "msg":
            yield node.value


def stops(source: str) -> list[str]:
    ends = [e for m in messages(ast.parse(source)) for e in endings(m)]
    return [e for e in ends if e.endswith(".") and not e.endswith("..")]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_errors_end_without_a_full_stop_and_annotations_are_not_postponed(file: Path) -> None:
    source = file.read_text()
    assert stops(source) == []
    assert "from __future__ import annotations" not in source


def test_a_full_stop_is_noticed() -> None:
    assert stops("raise ValueError(f'a {b}.')") == ["."]
    assert stops("msg = 'a.' if x else 'b'") == ["a."]
