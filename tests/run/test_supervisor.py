"""The supervisor, on real processes: restarts, gives up, ends all, tells followers."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from streamsketch.errors import LockedError
from streamsketch.run import supervisor
from streamsketch.run.status import Line, Status, read_all
from streamsketch.run.supervisor import Child, Supervisor, finished


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", (0.05,))
    monkeypatch.setattr(supervisor, "END_SECONDS", 3.0)


def test_a_crashed_process_is_started_again_until_it_ends_well(tmp_path, quick):
    code = f"import pathlib,sys; p=pathlib.Path({str(tmp_path / 'n')!r}); n=len(p.read_text()) if p.exists() else 0;"
    code += "p.write_text('x'*(n+1)); sys.exit(1 if n < 2 else 0)"
    assert Supervisor([Child("a", python(code))], tmp_path / "state").run(threading.Event()) == 0
    assert (tmp_path / "n").read_text() == "xxx"
    assert finished(tmp_path / "state", ["a"]) and not finished(tmp_path / "state", ["a", "b"])


def test_a_wrong_configuration_is_not_tried_again_and_ends_the_others(tmp_path, quick, caplog):
    bad = Child(
        "bad", python("import sys; sys.stderr.write('pipeline.toml has 1 mistake'); sys.exit(2)")
    )
    other = Child("other", python("import time; time.sleep(600)"))  # longer than a test may take
    assert Supervisor([other, bad], tmp_path).run(threading.Event()) == 2
    assert "1 mistake" in caplog.text


def test_it_gives_up_in_the_end(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(supervisor, "GIVE_UP", 1)
    assert (
        Supervisor([Child("a", python("raise SystemExit(3)"))], tmp_path).run(threading.Event())
        == 1
    )


def test_stopping_terminates_and_kills_who_does_not_listen(tmp_path, quick):
    deaf = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up',flush=True); time.sleep(60)"
    children = [
        Child("deaf", python(deaf)),
        Child("good", python("import time; print('up',flush=True); time.sleep(60)")),
    ]
    stop = threading.Event()
    s = Supervisor(children, tmp_path)

    def stop_when_up(lines):
        if all((tmp_path / "logs" / f"{n}.log").exists() and "up" in (tmp_path / "logs" / f"{n}.log").read_text()
               for n in ("deaf", "good")):  # fmt: skip
            stop.set()

    assert s.run(stop, stop_when_up) == 0
    for child in children:
        assert child.process.poll() in (-signal.SIGKILL, -signal.SIGTERM)


def test_status_lines_show_what_processes_say(tmp_path):
    Status(tmp_path, "consumer-0").write({"rows": 7, "lag": None})
    child = Child("consumer-0", ["true"])
    assert Supervisor([child], tmp_path).lines() == [Line("consumer-0", "waiting", {})]
    child.done = True  # a process that has ended by itself has said all of this
    assert Supervisor([child], tmp_path).lines()[0].figures["rows"] == 7
    child.done, child.process = False, subprocess.Popen(["sleep", "60"])
    assert Supervisor([child], tmp_path).lines() == [Line("consumer-0", "starting", {})]
    child.process.kill()
    child.process.wait()
    assert read_all(tmp_path)["consumer-0"]["pid"] == os.getpid()


def test_a_second_run_on_one_state_folder_is_refused_and_starts_nothing(tmp_path, quick):
    stop = threading.Event()
    first = Supervisor([Child("a", python("import time; time.sleep(60)"))], tmp_path)
    runner = threading.Thread(target=first.run, args=(stop,))
    runner.start()
    while first.children["a"].process is None:
        time.sleep(0.02)
    mark = tmp_path / "finished" / "a"
    mark.touch()
    second = Supervisor([Child("b", python(""))], tmp_path)
    try:
        with pytest.raises(LockedError, match=rf"held by another process \(pid {os.getpid()}\)"):
            second.run(threading.Event())
        assert second.children["b"].process is None and mark.exists()
    finally:
        stop.set()
        runner.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_children_end_with_the_supervisor_however_it_ends(tmp_path, number):
    child = f"""
import os, pathlib
from streamsketch.run.signals import end_with_parent, stop_on_signals
stop = stop_on_signals()
end_with_parent(stop)
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
stop.wait(60)
pathlib.Path({str(tmp_path / "saved")!r}).touch()
"""
    parent = f"""
import pathlib, sys
from streamsketch.run.signals import stop_on_signals
from streamsketch.run.supervisor import Child, Supervisor
children = [Child("a", [sys.executable, "-c", {child!r}])]
sys.exit(Supervisor(children, pathlib.Path({str(tmp_path / "state")!r})).run(stop_on_signals()))
"""
    supervising = subprocess.Popen(python(parent))
    for _ in range(600):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.05)
    supervising.send_signal(number)
    assert supervising.wait() == (0 if number == signal.SIGHUP else -signal.SIGKILL)
    for _ in range(200):
        if (tmp_path / "saved").exists():
            return
        time.sleep(0.05)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    pytest.fail("the child outlives its supervisor")


def test_a_busy_child_that_has_nothing_to_save_ends_at_once(tmp_path):
    """The trainer of a killed supervisor does not train its step to the end first."""
    code = """
import threading, time
from streamsketch.run.signals import end_with_parent
end_with_parent(threading.Event(), saves=False)
time.sleep(60)
"""
    busy = subprocess.Popen(
        python(code), stdin=subprocess.PIPE, env={**os.environ, "STREAMSKETCH_SUPERVISED": "1"}
    )
    assert busy.stdin is not None
    busy.stdin.close()
    assert busy.wait(10) == 1
