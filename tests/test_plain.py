"""What others name reaches terminals, logs and comments as plain text."""

import io
import logging
import subprocess
import sys
import tomllib

import pyarrow as pa
import pyarrow.csv
import pytest
from streamsketch_consumers.sinks import make

from streamsketch.plain import PlainFormatter, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x y", "x y"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("a\n[evil]", r"a\n[evil]"),
        ("\u202egnp", r"\u202egnp"),
        ("\x9b2J", r"\x9b2J"),
        ("caf\u00e9 \u6771", "caf\u00e9 \u6771"),
        ("\udc80", r"\udc80"),
    ],
)
def test_nothing_that_a_terminal_acts_on_is_left(text, shown):
    assert plain(text) == shown


def test_a_name_cannot_forge_a_record_of_a_log():
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(PlainFormatter("%(levelname)s: %(message)s"))
    handler.handle(logging.makeLogRecord({"msg": "column %s", "args": ("a\nERROR: forged",)}))
    assert lines.getvalue().count("\n") == 1


def test_a_file_name_cannot_add_tables_to_a_pipeline(tmp_path):
    path = tmp_path / "x\n[evil]\na = 1\n#.csv"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i}\n" for i in range(50)))
    made = subprocess.run(
        [sys.executable, "-m", "streamsketch", "init", str(path)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert "evil" not in tomllib.loads(made.stdout)
    assert "\n[evil]" not in made.stderr


def test_formulas_in_csv_are_escaped_where_it_is_asked_for(tmp_path):
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "x", None]
    table = pa.table({"=n": range(7), "t": texts}).set_column(
        1, "t", pa.array(texts).dictionary_encode()
    )
    for asked in (True, False):
        path = tmp_path / f"{asked}.csv"
        with make({"path": str(path), "escape_formulas": asked}) as sink:
            sink.write(table)
        options = pyarrow.csv.ConvertOptions(column_types={"t": pa.string()})
        found = pyarrow.csv.read_csv(path, convert_options=options)
        begun = "'" if asked else ""
        assert found.column_names == [f"{begun}=n", "t"]
        assert found["t"].to_pylist()[:6] == [*(begun + t for t in texts[:5]), "x"]


def test_a_closed_standard_output_and_ctrl_c_show_no_traceback():
    shell = f"{sys.executable} -m streamsketch --version >&-"
    ended = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert "Traceback" not in ended.stderr and ended.returncode == 0
