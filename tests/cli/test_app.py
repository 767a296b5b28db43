"""The command's contract: streams, exit codes, one-sentence errors, light start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamsketch import __version__
from tests.cli.conftest import Call

COMMANDS = (
    "init", "run", "consume", "replay", "train", "sample", "evaluate", "inspect", "merge",
    "serve", "completion",
)  # fmt: skip


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from streamsketch.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_help_is_light() -> None:
    code = (
        "import sys\n"
        "from streamsketch.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'kafka', 'numba', 'river', 'sklearn', 'scipy', 'matplotlib', 'pandas',\n"
        "         'numpy', 'pyarrow', 'pydantic', 'fsspec'} & set(sys.modules)\n"
        "print('LOADED', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    last = done.stdout.strip().splitlines()[-1]
    assert last == "LOADED []"
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(call: Call, name: str) -> None:
    shown = call(name, "--help")
    assert shown.code == 0
    assert "Usage: streamsketch " + name in shown.out
    assert not shown.err


def test_version_goes_to_standard_output(call: Call) -> None:
    assert call("--version") == (0, __version__ + "\n", "")


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("sample",), ("sample", "x", "--count", "-1"), ("init", "a", "--nothing")],
)
def test_a_wrong_call_ends_with_2(call: Call, arguments: tuple[str, ...]) -> None:
    shown = call(*arguments)
    assert shown.code == 2
    assert not shown.out
    assert "Usage: streamsketch" in shown.err


def test_an_error_is_one_sentence(call: Call, tmp_path: Path) -> None:
    shown = call("inspect", tmp_path / "nowhere")
    assert shown.code == 2
    assert not shown.out
    assert shown.err.startswith("error: There is no store at")
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(tmp_path: Path, place: str) -> None:
    arguments = ["inspect", str(tmp_path / "nowhere")]
    done = run(*(["--debug", *arguments] if place == "before" else [*arguments, "--debug"]))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_a_failure_at_work_ends_with_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "snapshot.safetensors").write_bytes(b"not a snapshot")
    shown = call("inspect", tmp_path / "snapshot.safetensors")
    assert shown.code == 1
    assert "snapshot.safetensors" in shown.err
    assert shown.err.count("\n") == 1


def test_an_unexpected_error_is_told_shortly(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from streamsketch.run import facts

    def fail(store: str, newest: int) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(facts, "facts_of", fail)
    shown = call("inspect", tmp_path)
    assert shown.code == 1
    assert shown.err == "error: unexpected ZeroDivisionError: oh; add --debug for the traceback\n"


def test_no_colour_off_a_terminal_or_when_asked(trained: Path) -> None:
    for environment in ({}, {"NO_COLOR": "1", "FORCE_COLOR": ""}):
        done = run("inspect", str(trained), **environment)
        assert done.returncode == 0
        assert "\x1b[" not in done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(call: Call, shell: str) -> None:
    shown = call("completion", shell)
    assert shown.code == 0
    assert "_STREAMSKETCH_COMPLETE" in shown.out
    assert call("completion", "tcsh").code == 2


def test_a_reader_that_has_gone_is_no_error(trained: Path) -> None:
    command = f"{sys.executable} -c 'from streamsketch.cli import main; main()'"
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{command} sample {trained} -n 20000 --iid | head -1; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[0].startswith("{")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("x\n" + "".join(f"{i}.5\n" for i in range(50)))
    command = f"{sys.executable} -m streamsketch init {table} {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
