"""What importing the library and asking the command for help may load."""

import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "kafka",
    "numba",
    "river",
    "sklearn",
    "matplotlib",
    "scipy",
    "pandas",
    "dp_accounting",
]


@pytest.mark.parametrize(
    "code",
    [
        "import streamsketch; streamsketch.Schema",
        "from streamsketch import Schema, Sketcher; Sketcher(Schema.from_dict("
        "{'x': {'kind': 'numeric', 'low': 0, 'high': 1}, 'y': "
        "{'kind': 'categorical', 'type': 'string', 'values': ['a', 'b']}}))",
        "import streamsketch.cli.app",
        "from typer.testing import CliRunner; from streamsketch.cli.app import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
)
def test_nothing_heavy_is_loaded(code):
    check = f"{code}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    import streamsketch

    with pytest.raises(AttributeError, match="nonesuch"):
        _ = streamsketch.nonesuch
    assert all(hasattr(streamsketch, name) for name in streamsketch.__all__)
