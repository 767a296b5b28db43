"""The wheel alone, away from the clone: the command, its parts by entry point, the page's files."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the wheel is installed into, without its dependencies."""
    home = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    copied = home / "clone"
    tracked = subprocess.check_output(
        ["git", "ls-files", "streamsketch", "consumers", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        text=True,
    )
    for name in tracked.split():
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes((ROOT / name).read_bytes())
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(home), str(copied)]
    subprocess.run([*pip, *wheel], check=True)
    (made,) = home.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(home / "site"), str(made)], check=True
    )
    return home / "site"


def run(site, folder, *argv):
    env = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *argv], cwd=folder, env=env, capture_output=True, text=True, check=True
    )


def test_the_command_runs_from_another_folder(site, tmp_path):
    where = run(
        site,
        tmp_path,
        "-c",
        "import streamsketch, streamsketch_consumers as c; print(streamsketch.__file__, c.__file__)",
    )
    assert where.stdout.count(str(site)) == 2
    assert "replay" in run(site, tmp_path, "-m", "streamsketch", "--help").stdout
    pq.write_table(
        pa.table({"x": [i / 100 for i in range(100)], "c": ["a", "b"] * 50}),
        tmp_path / "rows.parquet",
    )
    proposed = run(site, tmp_path, "-m", "streamsketch", "init", "rows.parquet").stdout
    (tmp_path / "p.toml").write_text(proposed)
    ended = run(
        site, tmp_path, "-m", "streamsketch", "replay", "rows.parquet", "--pipeline", "p.toml"
    )
    assert "100 rows learned" in ended.stderr and "1 snapshot " in ended.stderr


def test_it_holds_the_page_and_its_types(site):
    static = site / "streamsketch" / "dashboard" / "static"
    tracked = subprocess.check_output(
        ["git", "ls-files", "streamsketch/dashboard/static"], cwd=ROOT, text=True
    ).split()
    assert {p.name for p in static.iterdir()} == {Path(name).name for name in tracked}
    assert (site / "streamsketch" / "py.typed").exists()
    assert not (site / "tests").exists() and not (site / "testing").exists()


def test_what_errors_say_to_install_can_be_installed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    said = set()
    for path in [*ROOT.glob("streamsketch/**/*.py"), *ROOT.glob("consumers/**/*.py")]:
        said |= set(re.findall(r"streamsketch\[(\w+)\]", path.read_text()))
    assert {"serve", "avro", "confluent", "objects"} <= said <= set(extras)
    every = set(re.search(r"\[(.*)\]", extras["all"][0])[1].split(","))
    assert said <= every
