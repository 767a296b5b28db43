"""With a mechanism on nothing outside of the secret state tells of a row: not a message, a status, a name or a size."""

import json
import logging
import re
import threading

import pyarrow as pa
from streamsketch_consumers import arrow, files

from streamsketch.errors import SourceError
from streamsketch.ingest.discretion import discreet, told
from streamsketch.run import consume
from streamsketch.run.config import load
from streamsketch.run.status import read_all

ROWS = 1237
PIPELINE = """
[source]
type = "files"
path = "in"
batch_rows = 1
[sketch]
frequencies = 16
[privacy]
mechanism = "toeplitz"
rho = 1e-4
releases = 20
[snapshots]
save_seconds = 1e-6
[dead_letters]
on_error = "dlq"
[store]
path = "store"
[schema.x]
kind = "numeric"
low = 0
high = 10000
"""


def pipeline(folder, extra=""):
    (folder / "in").mkdir(exist_ok=True)
    (folder / "p.toml").write_text(
        PIPELINE.replace("batch_rows = 1\n", f"batch_rows = 1\n{extra}")
    )
    return load(str(folder / "p.toml"))


def outside(folder):
    """Names, sizes and texts of all files that are not secret."""
    store = folder / "store"
    found = [
        p for p in store.rglob("*") if p.is_file() and "state" not in p.relative_to(store).parts
    ]
    return "\n".join(
        f"{p.relative_to(store)} {p.stat().st_size} {p.read_bytes()!r}" for p in found
    )


def ran(loaded, source, caplog, capfd):
    """What a whole run says, with one row a save: messages, status, streams, errors, reprs."""
    seen = []
    with caplog.at_level(logging.DEBUG):
        try:
            consume.run_ingest(loaded, source, threading.Event())
        except Exception as e:
            seen.append(f"{type(e).__name__}: {e} {e.__cause__}")
    seen += [caplog.text, *capfd.readouterr(), json.dumps(read_all(loaded.store().state_dir))]
    return "\n".join(seen)


def exact(text, *numbers):
    """Which of the numbers stand in a text."""
    plain = text.replace(",", "").replace("_", "")
    return [n for n in numbers if re.search(rf"(?<!\d){n}(?!\d)", plain)]


def test_a_private_run_of_one_row_a_save(tmp_path, caplog, capfd):
    loaded = pipeline(tmp_path)
    good = "".join(f'{{"x": {5000 + i}}}\n' for i in range(ROWS))
    (tmp_path / "in/a.jsonl").write_text(good + '{"x": "secret-value"}\n' * 13)
    source = files.make({"path": str(tmp_path / "in"), "batch_rows": 1}, loaded.schema)
    said = ran(loaded, source, caplog, capfd)
    assert json.loads(said.splitlines()[-1])["consumer-0"]["releases"] >= 1
    everything = said + outside(tmp_path)
    assert not exact(everything, ROWS, ROWS + 13, ROWS - 1, 5000 + ROWS - 1)
    assert "secret-value" not in everything
    assert repr(source) and not exact(repr(source), ROWS)
    state = loaded.store().state_dir
    assert all(not p.stat().st_mode & 0o077 for p in state.rglob("*.safetensors"))


def test_sources_messages_and_errors(tmp_path, caplog, capfd):
    loaded = pipeline(tmp_path)
    batch = pa.record_batch({"x": [1.0] * ROWS})
    with (
        pa.OSFile(str(tmp_path / "a.arrows"), "wb") as f,
        pa.ipc.new_stream(f, batch.schema) as out,
    ):
        out.write_batch(batch)
    settings = {"path": str(tmp_path / "a.arrows")}
    said = ran(loaded, arrow.make(settings, loaded.schema), caplog, capfd)
    said += ran(loaded, arrow.make(settings, loaded.schema), caplog, capfd)  # started again
    assert "rows were counted before" in said
    (tmp_path / "a.arrows").write_bytes((tmp_path / "a.arrows").read_bytes()[:-400])
    said += ran(loaded, arrow.make(settings, loaded.schema), caplog, capfd)
    assert "cut or damaged after # rows" in said and "details.log" in said
    assert not exact(said, ROWS, 2 * ROWS)
    details = loaded.store().state_dir / "details.log"
    assert exact(details.read_text(), ROWS) and not details.stat().st_mode & 0o077


def test_without_a_mechanism_the_numbers_are_told(tmp_path, caplog, capfd):
    text = PIPELINE.replace('"toeplitz"', '"none"').replace("rho = 1e-4\nreleases = 20\n", "")
    (tmp_path / "in").mkdir()
    (tmp_path / "p.toml").write_text(text)
    loaded = load(str(tmp_path / "p.toml"))
    (tmp_path / "in/a.jsonl").write_text('{"x": 1}\n' * 30)
    ran(loaded, files.make({"path": str(tmp_path / "in")}, loaded.schema), caplog, capfd)
    (tmp_path / "in/a.jsonl").unlink()
    said = ran(loaded, Failing(), caplog, capfd)
    assert "row 12347" in said


class Failing:
    finished = False

    def open(self, owner):
        raise SourceError("file 'x' has no row 12347")

    def close(self):
        pass


def test_what_is_left_of_a_message():
    assert (
        told("%s: offsets %d to %d, of 'topic-7' (5.25 s)")
        == "...: offsets ... to ..., of '...' (#.# s)"
    )
    assert told("%(name)s %-5.2f%%") == "... ...%%"


def test_of_several_streams_the_last_one_restores_the_log(tmp_path, caplog):
    before, log = logging.getLogRecordFactory(), logging.getLogger("some.source")
    first, second = discreet(make(tmp_path / "a")), discreet(make(tmp_path / "b"))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    log.warning("row %d", 777)
    second.__exit__(None, None, None)
    log.warning("row %d", 888)
    assert "777" not in caplog.text and "row 888" in caplog.text
    assert logging.getLogRecordFactory() is before
    assert "777" not in (tmp_path / "a/details.log").read_text()
    assert "777" in (tmp_path / "b/details.log").read_text()


def make(folder):
    folder.mkdir()
    return folder
