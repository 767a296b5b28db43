"""The live page in a real browser, while a pipeline reads Kafka."""

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import orjson
import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("kafka")

from testing.broker import BrokerProcess
from testing.broker.process import free_port
from testing.kafka_tools import new_topic
from tests.dashboard.browser import PHONE, SCREEN, Browser, axe, violations

COMMAND = [sys.executable, "-c", "from streamsketch.cli import main; main()"]
PIPELINE = """
[source]
type = "kafka"
bootstrap_servers = "{servers}"
topic = "orders"
start = "earliest"
[schema.amount]
kind = "numeric"
low = 0.0
high = 100.0
[schema."<b>kind"]
kind = "categorical"
type = "string"
values = ["bread", "milk", "wine"]
[sketch]
frequencies = 128
law = "multiscale+axis"
cells = {cells}
[snapshots]
seconds = 2.0
save_seconds = 1.0
[trainer]
seconds = 3.0
{drift}
[sampler]
rows = 200
[store]
path = "store"
"""
PANELS = (
    "p-rate", "p-lag", "p-lag-s", "p-dead", "p-durations", "p-snapshot-rows", "p-moved", "p-drift",
    "p-loss", "p-heldout", "p-checkpoints", "p-sampler", "p-issued",
)  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The address of a page over a pipeline that runs, fed for as long as the tests last."""
    from kafka import KafkaProducer

    folder = tmp_path_factory.mktemp("live")
    broker = BrokerProcess(tmp_path_factory.mktemp("broker"))
    (folder / "p.toml").write_text(
        PIPELINE.format(servers=broker.bootstrap, cells="false", drift="[drift]\nwindow = 100")
    )
    stop = threading.Event()

    new_topic(broker.bootstrap, 2, "orders")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)

    def feed():
        rng = np.random.default_rng(0)
        while not stop.wait(0.2):
            kinds = rng.choice(["bread", "milk", "wine", "stone"], 40, p=[0.5, 0.3, 0.19, 0.01])
            for amount, kind in zip(np.clip(rng.normal(40, 12, 40), 0, 100), kinds, strict=True):
                row = orjson.dumps({"amount": float(amount), "<b>kind": str(kind)})
                producer.send("orders", row)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    port = free_port()
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    time.sleep(0.5)
    processes = []
    for name, *more in (["run", "p.toml"], ["serve", "p.toml", "--port", str(port)]):
        with (folder / name).open("wb") as out:
            processes.append(
                subprocess.Popen([*COMMAND, name, *more], cwd=folder, env=env, stderr=out)
            )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
        stop.set()
        feeder.join()
        producer.close()
        broker.close()
        print((folder / "run").read_text()[-3000:], (folder / "serve").read_text()[-3000:])


def wait(what, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = what()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not seen within {seconds} s: {what()}")


@pytest.fixture(scope="module")
def page(running, tmp_path_factory):
    wait(lambda: urlopen(running + "readyz", timeout=10).status == 200)
    driver = Browser(tmp_path_factory.mktemp("profile"))
    driver.resize(SCREEN)
    driver.get(running)
    yield driver
    driver.close()


def text(driver, selector: str) -> str:
    return driver.run(
        "const e = document.querySelector(arguments[0]); return e ? e.textContent : ''", selector
    )


def test_every_panel_has_data_and_moves(page) -> None:
    drawn = "return [...arguments[0]].filter(id => !document.querySelector(`#${id} canvas`))"
    wait(lambda: not page.run(drawn, PANELS))
    wait(lambda: page.run("return document.querySelectorAll('#laws .panel').length >= 2"))
    assert "bread" in text(page, "#laws")
    assert "<b>kind" in text(page, "#laws")  # a name is shown as it is, never as markup
    assert "trainer" in text(page, "#p-processes")
    assert "MiB" in text(page, "#p-storage") or "KiB" in text(page, "#p-storage")
    before = text(page, "#p-rate .now"), text(page, "#when")
    wait(lambda: (text(page, "#p-rate .now"), text(page, "#when")) != before, 15)
    assert text(page, "#verdict-text") not in ("", "Looking at the store.")


def test_rows_and_pause(page) -> None:
    page.run("document.getElementById('draw').click()")
    wait(lambda: page.run("return document.querySelectorAll('#rows tbody tr').length == 8"))
    page.run("document.getElementById('pause').click()")
    seen = wait(lambda: text(page, "#when"))
    time.sleep(2.5)
    assert text(page, "#when") == seen
    page.run("document.getElementById('pause').click()")
    wait(lambda: text(page, "#when") != seen, 15)


def test_nothing_is_wrong_in_light_dark_and_on_a_phone(page, running, tmp_path) -> None:
    source = axe(tmp_path)
    if not source:
        warnings.warn(
            pytest.PytestWarning("NO AXE: accessibility was not checked (npm cannot fetch it)"), stacklevel=1
        )  # fmt: skip
    shots = os.environ.get("STREAMSKETCH_SCREENSHOTS")
    for name, size, scheme in (
        ("light", SCREEN, "light"), ("dark", SCREEN, "dark"), ("phone", PHONE, "light"),
    ):  # fmt: skip
        page.scheme(scheme)
        page.resize(size)
        time.sleep(2)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), name
        if source:
            assert violations(page, source) == [], name
        if shots:
            height = page.run("return document.documentElement.scrollHeight")
            page.resize((size[0], height))
            time.sleep(1.5)
            page.save(Path(shots) / f"page-{name}.png")
    assert page.errors() == []


def test_the_interface_is_described_without_anything_from_elsewhere(page, running) -> None:
    page.get(running + "docs")
    wait(lambda: "/sample" in text(page, "#paths"))
    assert page.errors() == []
    page.get(running)
