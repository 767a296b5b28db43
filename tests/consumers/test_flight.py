"""The Flight source: real servers on loopback, clients that retry, servers and clients that die."""

import json
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.flight import FlightSettings, FlightSource, FlightWriter, make

from streamsketch.errors import ConfigError, SchemaError, SourceError
from streamsketch.schema import Column, Schema
from testing.flight_faults import FlightRun

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=1e6),
        Column("c", "categorical", "string", values=("a", "b")),
    ]
)
KILLS = int(os.environ.get("STREAMSKETCH_TEST_KILLS", "4"))


def batch(n, start=0):
    c = ["a" if i % 3 else "b" for i in range(n)]
    return pa.record_batch(
        {"n": np.arange(start, start + n), "extra": np.zeros(n), "c": pa.array(c, pa.string())}
    )


def batches(count, n=100):
    return [batch(n, k * n) for k in range(count)]


class Owner:
    def __init__(self, position=None):
        self.position = position

    def claim(self, part):
        return self.position


class Running:
    """A source that is polled and saved in a thread, as the pipeline does."""

    def __init__(self, position=None, samples=None, save=True, schema=SCHEMA, **settings):
        self.source = FlightSource(FlightSettings(port=0, **settings), schema, samples)
        self.source.open(Owner(position))
        self.save, self.chunks, self.position = save, [], position
        self.reading = threading.Event()
        self.reading.set()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stop.is_set():
            if not self.reading.wait(0.02):
                continue
            for chunk in self.source.poll(0.02):
                self.chunks.append(chunk)
                self.position = json.loads(json.dumps(chunk.position))
            if self.save and self.position is not None:
                self.source.saved({"flight": self.position})

    @property
    def location(self):
        return f"grpc://127.0.0.1:{self.source.port}"

    @property
    def numbers(self):
        return [v for c in self.chunks if c.batch for v in c.batch.column("n").to_pylist()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(5)
        self.source.close()


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_rows_arrive_and_are_acknowledged():
    with Running(batch_rows=33) as server:
        with FlightWriter(server.location, "me") as writer:
            assert writer.position == 0
            for b in batches(5):
                writer.write(b)
        assert writer.position == 5
        assert server.numbers == list(range(500))
        assert server.position == {"clients": {"me": [5, 0]}}
        assert max(c.batch.num_rows for c in server.chunks) == 33
        assert server.chunks[1].position == {"clients": {"me": [0, 66]}}
        assert server.chunks[1].where == {"client": "me", "batch": 1, "row": 33}
        assert server.chunks[0].batch.schema.names == ["n", "c"]


def test_clients_do_not_disturb_each_other():
    with Running() as server:

        def produce(k):
            with FlightWriter(server.location, f"client {k}") as writer:
                for b in batches(10):
                    writer.write(b)

        threads = [threading.Thread(target=produce, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        assert sorted(server.numbers) == sorted(list(range(1000)) * 8)
        assert server.position["clients"] == {f"client {k}": [10, 0] for k in range(8)}


def test_nothing_is_acknowledged_before_it_is_saved():
    with Running(save=False) as server:
        writer = FlightWriter(server.location, "me", patience=0.5)
        writer.write(batch(100))
        wait_for(lambda: len(server.numbers) == 100)
        with pytest.raises(
            SourceError, match=r"acknowledged nothing for 0.5 s.*look whether it saves"
        ):
            writer.flush()
        assert writer.position == 0
        server.save = True
        writer.close()
        assert writer.position == 1


def raw_put(server, name, messages, wait=True):
    """What a client without our helper does: put numbered batches; the numbers acknowledged."""
    client = fl.connect(server.location)
    writer, reader = client.do_put(fl.FlightDescriptor.for_path("rows", name), batch(1).schema)
    for number, b in messages:
        writer.write_with_metadata(b, str(number).encode() if isinstance(number, int) else number)
    writer.done_writing()
    told = []
    while wait and (answer := reader.read()) is not None:
        told.append(int(answer.to_pybytes()))
    writer.close()
    client.close()
    return told


def test_a_batch_that_comes_twice_counts_once():
    b = batches(4)
    with Running() as server:
        raw_put(server, "me", [(1, b[0]), (2, b[1]), (2, b[1]), (1, b[0])])
        told = raw_put(server, "me", [(1, b[0]), (2, b[1]), (3, b[2])])
        assert told[-1] == 3
        raw_put(server, "me", [(3, b[2]), (4, b[3])])
        assert server.numbers == list(range(400))


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([(2, batch(1))], "batch 2 of client 'me' follows batch 0; send batch 1"),
        ([(1, batch(1)), (3, batch(1))], "batch 3 of client 'me' follows batch 1"),
        ([(b"one", batch(1))], "batch number b'one' must be 1, 2, 3"),
        ([(b"", batch(1))], "must be 1, 2, 3"),
        ([(b"-1", batch(1))], "must be 1, 2, 3"),
        ([(b"9" * 30, batch(1))], "must be 1, 2, 3"),
    ],
)
def test_wrong_numbers_are_refused(messages, complaint):
    with Running() as server:
        with pytest.raises(fl.FlightServerError, match=complaint) as caught:
            raw_put(server, "me", messages)
        assert "Traceback" not in str(caught.value)
        with FlightWriter(server.location, "me") as writer:  # and the server goes on
            writer.write_all([batch(1), batch(2)])
        assert server.position == {"clients": {"me": [2, 0]}}


def test_wrong_columns_are_refused_at_once():
    with Running() as server:
        writer = FlightWriter(server.location, "me")
        with pytest.raises(
            SourceError, match=r"refuses client 'me': client 'me' has no column 'c'"
        ):
            for _ in range(100):
                writer.write(batch(1).select(["n"]))
                writer.flush()
        with FlightWriter(server.location, "me") as writer:
            writer.write(batch(1))
            with pytest.raises(SchemaError, match="columns changed from .* to .*another writer"):
                writer.write(batch(1).select(["n", "c"]))


def test_wrong_stream_client_action_and_ticket():
    with Running() as server:
        with pytest.raises(SourceError, match="stream 'rows'; correct it"):
            with FlightWriter(server.location, "me", stream="other") as writer:
                writer.write(batch(1))
        with pytest.raises(SourceError, match="1 to 128 printable"):
            FlightWriter(server.location, "x" * 129)
        client = fl.connect(server.location)
        with pytest.raises(fl.FlightServerError, match="use open"):
            list(client.do_action(fl.Action("drop", b"")))
        for body in (b"", b"[]", b"{}", b"\xff"):
            with pytest.raises(fl.FlightServerError, match="JSON object with the key 'client'"):
                list(client.do_action(fl.Action("open", body)))
        with pytest.raises(fl.FlightServerError, match="no samples"):
            client.do_get(fl.Ticket(b'{"rows": 3}')).read_all()
        assert [a.type for a in client.list_actions()] == ["open"]
        client.close()


def test_too_many_clients():
    with Running(max_clients=2) as server:
        for name in ("a", "b", "a"):
            FlightWriter(server.location, name).close()
        with pytest.raises(SourceError, match="one more than the 2 that are remembered"):
            FlightWriter(server.location, "c")


def test_a_batch_that_is_too_large():
    with Running(max_batch_bytes=1000) as server:
        with pytest.raises(SourceError, match="more than the 1000 allowed; send smaller"):
            with FlightWriter(server.location, "me") as writer:
                writer.write(batch(1000))


def test_an_empty_batch_counts_as_a_number():
    with Running() as server:
        with FlightWriter(server.location, "me") as writer:
            writer.write_all([batch(0), batch(3), batch(0)])
        assert server.position == {"clients": {"me": [3, 0]}} and server.numbers == [0, 1, 2]


def test_tiny_batches_leave_together():
    with Running(batch_rows=50) as server:
        server.reading.clear()
        time.sleep(0.1)
        with FlightWriter(server.location, "me") as writer:
            for k in range(120):
                writer.write(batch(1, k))
            wait_for(lambda: server.source.lag()["flight"] == 120)
            server.reading.set()
        assert server.numbers == list(range(120))
        assert [c.batch.num_rows for c in server.chunks] == [50, 50, 20]
        assert server.chunks[0].where["rows"][7] == {"client": "me", "batch": 8, "row": 0}


def test_the_example(tmp_path, capsys):
    import pyarrow.parquet as pq

    from examples.flight_client import main

    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_batches(batches(25, 1000)), path)
    with Running() as server:
        for _ in range(2):  # the second time it has nothing to send
            main(server.location, str(path))
        assert server.numbers == list(range(25_000))
    assert capsys.readouterr().out == "3 batches are durable\n" * 2


def test_an_older_connection_of_the_same_client_is_shut_out():
    with Running() as server:
        old = FlightWriter(server.location, "me")
        old.write(batch(10))
        old.flush()
        new = FlightWriter(server.location, "me")
        assert new.position == 1
        with pytest.raises(SourceError, match="connected anew; this connection is shut out"):
            old.write(batch(10, 1000))
            old.flush()
        new.write(batch(10, 10))
        new.close()
        assert server.numbers == list(range(20))


def test_a_fast_client_waits_and_the_server_does_not_fill_up():
    with Running(queue_bytes=200_000) as server:
        server.reading.clear()
        writer = FlightWriter(server.location, "me", unacknowledged_bytes=1 << 40)
        sent = []

        def produce():
            for b in batches(2000, 1000):
                sent.append(writer.write(b))

        thread = threading.Thread(target=produce, daemon=True)
        thread.start()
        stuck = -1
        while len(sent) != stuck:  # until it waits in its own write
            stuck = len(sent)
            time.sleep(2.0)
        assert server.source.lag()["flight"] <= 200_000 / 13 + 1
        assert thread.is_alive() and stuck < 2000
        server.reading.set()
        thread.join(60)
        writer.close()
        assert server.numbers == list(range(2_000_000))


def test_the_client_keeps_no_more_than_it_was_told_to():
    with Running(save=False) as server:
        writer = FlightWriter(server.location, "me", unacknowledged_bytes=10_000, patience=0.5)
        with pytest.raises(SourceError, match="acknowledged nothing"):
            for b in batches(100):
                writer.write(b)
        assert writer._bytes < 10_000 + batch(100).nbytes
        server.save = True
        writer.close()


def test_token(monkeypatch, tmp_path):
    monkeypatch.setenv("SKETCH_TOKEN", "secret")
    (tmp_path / "token").write_text("secret\n")
    for where in ({"token_env": "SKETCH_TOKEN"}, {"token_file": str(tmp_path / "token")}):
        with Running(**where) as server:
            for token in (None, "", "secre", "secret2"):
                with pytest.raises(SourceError, match="token is missing or wrong") as caught:
                    FlightWriter(server.location, "me", token=token)
                assert "secret" not in str(caught.value)
            with FlightWriter(server.location, "me", token="secret") as writer:
                writer.write(batch(5))
            assert server.numbers == [0, 1, 2, 3, 4]
            with pytest.raises(ConfigError, match="ASCII"):
                FlightWriter(server.location, "me", token="sécret")
            with pytest.raises(fl.FlightUnauthenticatedError):
                raw_put(server, "me", [(1, batch(1))])


def certificate(folder, name="localhost"):
    """A self-signed certificate made by OpenSSL's command."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        + ["-keyout", str(key), "-out", str(cert)],
        capture_output=True,
        check=False,
    )
    return None if made.returncode else (str(cert), str(key))


def test_tls(tmp_path):
    try:
        pair = certificate(tmp_path)
    except FileNotFoundError:
        pair = None
    if pair is None:
        pytest.skip("needs the openssl command")
    with Running(tls_cert=pair[0], tls_key=pair[1]) as server:
        location = f"grpc+tls://localhost:{server.source.port}"
        trusted = (tmp_path / "cert.pem").read_bytes()
        with FlightWriter(location, "me", tls_root_certs=trusted) as writer:
            writer.write(batch(5))
        assert server.numbers == [0, 1, 2, 3, 4]
        with pytest.raises(SourceError):  # a certificate that nobody trusts
            FlightWriter(location, "me", patience=0.5)
        with pytest.raises(SourceError):  # no encryption
            FlightWriter(server.location, "me", patience=0.5)


def test_samples():
    def draw(rows):
        return pa.table({"n": range(rows)})

    with Running(samples=draw, max_sample_rows=100) as server:
        client = fl.connect(server.location)
        assert client.do_get(fl.Ticket(b'{"rows": 100}')).read_all()["n"].to_pylist() == list(
            range(100)
        )
        for rows in ("0", "101", '"x"', "1.5", "null"):
            with pytest.raises(fl.FlightServerError, match="number from 1 to 100"):
                client.do_get(fl.Ticket(f'{{"rows": {rows}}}'.encode())).read_all()
        client.close()


def test_samples_from_a_store_without_checkpoint(tmp_path):
    source = make({"port": 0, "samples": str(tmp_path)}, SCHEMA)
    source.open(Owner())
    client = fl.connect(f"grpc://127.0.0.1:{source.port}")
    with pytest.raises(fl.FlightServerError, match="no checkpoint yet; train one first"):
        client.do_get(fl.Ticket(b'{"rows": 1}')).read_all()
    client.close()
    source.close()


def test_close_with_clients_connected():
    server = Running(save=False)
    writer = FlightWriter(server.location, "me", patience=1.0)
    writer.write(batch(10))
    server.__exit__()
    with pytest.raises(SourceError):
        writer.flush()


@dataclass
class Message:
    app_metadata: pa.Buffer
    data: pa.RecordBatch


STEP = st.one_of(  # what is saved in the middle of a long batch, and then lost, is the hard part
    st.just(("poll-save-crash", "", 0)),
    st.tuples(st.just("send"), st.sampled_from("ab"), st.sampled_from([1, 1, 1, 0, -2])),
    st.tuples(st.sampled_from(["poll", "save", "crash"]), st.just(""), st.just(0)),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEP, min_size=5, max_size=60), batch_rows=st.integers(1, 12))
def test_any_order_of_retries_saves_and_crashes(steps, batch_rows):
    """Rows summed along the line of saved states are each client's rows, once and in order."""
    sizes = [9, 0, 7, 1, 5, 12]
    whole = {name: [batch(n, 100 * k) for k, n in enumerate(sizes)] for name in "ab"}

    def start(position):
        source = FlightSource(FlightSettings(batch_rows=batch_rows), SCHEMA)
        source._restore(position)
        return source, {name: source.connect(path(name), whole[name][0].schema) for name in "ab"}

    def path(name):
        return fl.FlightDescriptor.for_path("rows", name)

    def send(name, step):
        number = min(max(source._client(name).seq + step, 1), len(sizes))
        data = Message(pa.py_buffer(str(number).encode()), whole[name][number - 1])
        source.accept(*connections[name], data)

    def poll():
        for chunk in source.poll(0.0):
            rows = chunk.batch.column("n").to_pylist() if chunk.batch else []
            places = chunk.where.get("rows") or [chunk.where] * len(rows)
            summed.extend((p["client"], n) for p, n in zip(places, rows, strict=True))
            position.update(chunk.position)

    (source, connections), summed, position, saved_state = start(None), [], {}, ([], {})
    for what, name, step in [*steps, *[("send", n, 1) for n in "ab" for _ in sizes]]:
        if what == "send":
            send(name, step)
        if "poll" in what:
            poll()
        if "save" in what and position:
            saved_state = (list(summed), json.loads(json.dumps(position)))
            source.saved({"flight": position})
        if "crash" in what:
            summed, position = list(saved_state[0]), json.loads(json.dumps(saved_state[1]))
            source, connections = start(position or None)
    while source.lag()["flight"] or source._queue:
        poll()
    for name in "ab":
        expected = [n for b in whole[name] for n in b.column("n").to_pylist()]
        assert [n for who, n in summed if who == name] == expected


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def waiting(source):
    return source.lag()["flight"]


def test_a_server_that_restarts_in_mid_batch():
    """The position within a large batch is kept: its rows count once although it comes again."""
    with Running(batch_rows=10) as first:
        writer = FlightWriter(first.location, "me")
        writer.write(batch(1000))
        writer.flush()
        inside = first.chunks[41].position
    assert inside == {"clients": {"me": [0, 420]}}
    with Running(position=inside, batch_rows=10) as second:
        with FlightWriter(second.location, "me") as writer:
            assert writer.position == 0
            writer.write_all([batch(1000)])
        assert second.numbers == list(range(420, 1000))


def test_a_client_that_comes_back_to_another_server():
    port, done = free_port(), []
    settings = {"port": port}

    def run(position):
        source = FlightSource(FlightSettings(**settings), SCHEMA)
        source.open(Owner(position))
        return source

    source = run(None)
    writer = FlightWriter(f"grpc://127.0.0.1:{port}", "me", patience=20.0)
    position = None
    for k in range(4):
        writer.write(batch(10, 10 * k))
        flushing = threading.Thread(target=writer.flush)
        flushing.start()
        wait_for(partial(waiting, source))
        (chunk,) = source.poll(1.0)
        if k % 2:  # saved, but the server dies before or while it tells the client
            position = chunk.position
            done += chunk.batch.column("n").to_pylist()
            source.saved({"flight": position})
        source.close()
        source = run(position)
        if not k % 2:  # what was not saved comes again
            wait_for(partial(waiting, source), 20.0)
            (chunk,) = source.poll(1.0)
            position = chunk.position
            done += chunk.batch.column("n").to_pylist()
            source.saved({"flight": position})
        flushing.join(20.0)
        assert not flushing.is_alive() and writer.position == k + 1
    writer.close()
    source.close()
    assert done == list(range(40)) and position == {"clients": {"me": [4, 0]}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prot": 1}, "prot: unknown key; did you mean port"),
        ({"port": 70000}, "port: input should be less than or equal to 65535"),
        ({"host": "0.0.0.0"}, "lets anyone in the network feed rows; set token_env"),
        ({"tls_cert": "x"}, "tls_cert and tls_key belong together"),
        ({"tls_client_ca": "x"}, "needs tls_cert"),
        ({"token_env": "A", "token_file": "B"}, "contradict"),
        ({"token_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE holds no token"),
        ({"token_file": "nowhere"}, "cannot read 'nowhere'"),
        ({"queue_bytes": 0}, "queue_bytes: input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(wrong, SCHEMA)


def test_a_taken_port_and_no_server():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        source = make({"port": taken.getsockname()[1]}, SCHEMA)
        with pytest.raises(SourceError, match="free the port or choose another"):
            source.open(Owner())
        source.close()
    with pytest.raises(SourceError, match=r"cannot be reached .*for 0.3 s; start it"):
        FlightWriter(f"grpc://127.0.0.1:{free_port()}", "me", patience=0.3)


def test_servers_and_clients_killed_at_random_moments(tmp_path):
    """kill -9 of the sketching process and of its clients: the sums are those of all rows."""
    run = FlightRun(tmp_path, clients=2, batches=40 * KILLS)
    outcome = run.run_disturbed(KILLS, limit=60.0 + 2 * KILLS)
    assert outcome.exact and outcome.dead_exact, outcome
    assert outcome.while_running == outcome.advanced == sum(outcome.faults.values()) == KILLS
