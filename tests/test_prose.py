"""The documentation: short sentences, no laboured phrases, Python that compiles, keys that are described."""

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
WORDS = 40
LABOURED = [
    "is told",
    "are told",
    "that was not to be had",
    "was at hand",
    "in vain",
    "it is a try",
    "what is not there",
]


def names(paths: list[Path]) -> list[str]:
    return [str(p.relative_to(ROOT)) for p in paths]


def prose(text: str) -> Iterator[str]:
    """Paragraphs and list items outside of code, tables, mathematics and headings."""
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\A---.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not re.match(r" *(\||#|!\[|\[\^)", line)]
    text = re.sub(r"\n(?= *(?:[-*]|\d+\.) )", "\n\n", "\n".join(lines))
    for paragraph in re.split(r"\n\s*\n", text):
        yield " ".join(paragraph.split())


def sentences(text: str) -> Iterator[str]:
    for paragraph in prose(text):
        plain = re.sub(r"`[^`]*`|\$[^$]*\$|\([^()]*\)", "x", paragraph)
        plain = re.sub(r"\b(e\.g|i\.e|et al|cf|vs)\.", r"\1", plain)
        yield from re.split(r"(?<=[.!?])\s+", plain)


def test_a_long_sentence_is_seen() -> None:
    assert max(len(s.split()) for s in sentences("One. " + "word " * 41 + "end.")) == 42
    assert list(sentences("| a table | of " + "words " * 50 + "|")) == [""]


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_sentences_are_short(path: Path) -> None:
    long = [s for s in sentences(path.read_text()) if len(s.split()) > WORDS]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_no_laboured_phrase(path: Path) -> None:
    text = " ".join(path.read_text().split()).lower()
    assert [phrase for phrase in LABOURED if phrase in text] == []


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_python_blocks_compile(path: Path) -> None:
    for indent, block in re.findall(
        r"^( *)```python\n(.*?)^\1```", path.read_text(), re.DOTALL | re.MULTILINE
    ):
        ast.parse("\n".join(line.removeprefix(indent) for line in block.splitlines()))


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_toml_blocks_are_toml(path: Path) -> None:
    text = path.read_text()
    for indent, block in re.findall(r"^( *)```toml\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        tomllib.loads("\n".join(line.removeprefix(indent) for line in block.splitlines()))


@pytest.mark.parametrize("path", TUTORIALS, ids=names(TUTORIALS))
def test_tutorials_compile(path: Path) -> None:
    assert path.read_text().startswith("# %% [markdown]\n# # ")
    ast.parse(path.read_text())


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("nav:\n")[2]
    pages = [p for p in [*PAGES[1:], *TUTORIALS] if "hooks" not in p.parts]
    missing = [str(p.relative_to(ROOT / "docs")) for p in pages]
    assert [page for page in missing if page not in nav] == []


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = util.spec_from_file_location("reference", ROOT / "docs" / "hooks" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_of_the_pipeline_is_described(hook: ModuleType) -> None:
    from streamsketch.run.tables import PipelineFile

    page = hook.pipeline()  # raises KeyError where a key has no meaning in its docstring
    for table in PipelineFile.__dataclass_fields__:
        assert f"## {table}\n" in page
    for key in (
        "watermark",
        "epsilon",
        "bootstrap_servers",
        "settle_seconds",
        "registry_cafile",
        "periods",
    ):
        assert f"| `{key}` |" in page


def test_a_key_without_a_meaning_is_noticed(hook: ModuleType) -> None:
    @dataclasses.dataclass
    class Table:
        """A table.

        Attributes:
            one, two: Both.
        """

        one: int
        two: int
        three: int

    assert hook.described(Table) == ("A table.", {"one": "Both.", "two": "Both."})
