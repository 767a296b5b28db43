"""The page and the HTTP API, asked over a real socket."""

import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from streamsketch import Schema, Sketcher, Store, fit  # noqa: E402
from streamsketch.dashboard import make_app  # noqa: E402
from streamsketch.dashboard.server import config  # noqa: E402


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rng = np.random.default_rng(0)
    kind = pa.array(np.where(rng.random(400) < 0.5, "<b>a", "b"))
    table = pa.table({"x": rng.normal(size=400), "kind": kind})
    sketcher = Sketcher(Schema.propose(table, label="kind"), frequencies=64, conditional=True)
    made = Store(tmp_path_factory.mktemp("store"))
    for i in range(3):
        sketcher.learn_many(table.slice(100 * i, 100))
        made.snapshots.put(sketcher.release().to_bytes())
    made.checkpoints.put(fit(sketcher.release(), steps=2).to_bytes())
    return made


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    yield from served(store)


def served(store: Store) -> Iterator[str]:
    server = uvicorn.Server(config(make_app(store, most=500)))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def get(url: str) -> bytes:
    with urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def test_the_page_loads_nothing_from_elsewhere(url: str) -> None:
    with urlopen(url) as answer:
        text = answer.read().decode()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    addresses = re.findall(r'(?:src|href)="([^"]+)"', text)
    for address in addresses:
        assert re.match(r"static/|#|data:,|docs|metrics|status", address)
        if address.startswith("static/"):
            assert get(f"{url}/{address}")
    script = get(f"{url}/static/page.js").decode()
    assert "innerHTML" not in script  # names of columns are shown as text, never as markup
    assert set(re.findall(r'fetch\("(\w+)', script)) == {"history", "marginals", "sample"}
    for name in re.findall(r'at\("([\w-]+)"\)', script):
        assert f'id="{name}"' in text


def test_status_is_what_inspect_tells(url: str, store: Store) -> None:
    from streamsketch.run.facts import facts_of

    told = json.loads(get(f"{url}/status"))
    assert told == facts_of(store, 50) | {"store": Path(store.url).name}
    assert told["snapshots"][0]["rows"] == 300


def test_metrics_are_prometheus_text(url: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = get(f"{url}/metrics").decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert families["streamsketch_snapshots"].samples[0].value == 3
    assert families["streamsketch_snapshot_rows"].samples[0].value == 300
    assert all(f.documentation and f.type != "unknown" for f in families.values())


def test_rows_in_every_format(url: str) -> None:
    ask = f"{url}/sample?n=5&seed=3&format="
    rows = json.loads(get(ask + "json"))
    assert len(rows) == 5
    assert [json.loads(x) for x in get(ask + "jsonl").decode().splitlines()] == rows
    assert pa.ipc.open_stream(get(ask + "arrow")).read_all().to_pylist() == rows
    assert parquet.read_table(io.BytesIO(get(ask + "parquet"))).to_pylist() == rows
    assert csv.read_csv(io.BytesIO(get(ask + "csv"))).num_rows == 5


def test_seeds_and_labels(url: str) -> None:
    def ask(query: str) -> bytes:
        return get(f"{url}/sample?n=20&{query}")

    assert ask("seed=1") == ask("seed=1") != ask("seed=2")
    assert ask("") != ask("")
    assert {row["kind"] for row in json.loads(ask("label=b"))} == {"b"}


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("n=501", 422, "500"),
        ("n=-1", 422, "greater"),
        ("format=xls", 422, "json"),
        ("label=c", 400, "There are no rows of label 'c'"),
        ("where=y=1", 400, "y"),
        ("where=nothing", 400, "nothing"),
        ("m=1", 422, "m: is unknown"),
        ("n=1&n=2", 422, "n: is given twice"),
        ("seed=-1", 422, "greater"),
    ],
)
def test_wrong_questions_are_answered(url: str, query: str, code: int, words: str) -> None:
    with pytest.raises(HTTPError) as error:
        get(f"{url}/sample?{query}")
    assert error.value.code == code
    assert words in error.value.read().decode()
    error.value.close()


def test_a_store_without_checkpoints(tmp_path: Path) -> None:
    for url in served(Store(tmp_path)):
        assert json.loads(get(f"{url}/status"))["snapshots"] == []
        with pytest.raises(HTTPError) as error:
            get(f"{url}/sample")
        assert error.value.code == 503
        assert "has no checkpoint yet" in error.value.read().decode()
        error.value.close()


def test_the_command_serves_and_ends_cleanly(store: Store) -> None:
    from testing.broker.process import free_port

    port = free_port()
    code = "from streamsketch.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(store.url), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stderr.readline()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                assert b"streamsketch_snapshots 3" in get(f"http://127.0.0.1:{port}/metrics")
                break
            except OSError:
                time.sleep(0.1)
        process.terminate()
        assert process.wait(15) in (0, -15, 143)
    finally:
        process.kill()
        process.communicate()
