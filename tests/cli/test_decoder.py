"""`streamsketch sample package.module:name`: a decoder of the user's own."""

from pathlib import Path

import pytest
from pyarrow import parquet

from tests.cli.conftest import Call

MODULE = """
import torch
from streamsketch.generator import Decoder

def made():
    torch.manual_seed(0)
    return Decoder(torch.nn.Linear(2, 9), latent_dim=2, low=-5, high=5)

ready = made()
number = 3
"""


def test_rows_of_a_decoder_and_its_history(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_decoder.py").write_text(MODULE)
    command = ["sample", "my_decoder:made", "-n", 12, "--target", "latent", "--history", "h"]
    assert call(*command, "-o", "a.parquet").code == 0
    assert call(*command[:1], "my_decoder:ready", *command[2:], "-o", "b.parquet").code == 0
    a, b = (parquet.read_table(tmp_path / f"{k}.parquet") for k in "ab")
    assert a.num_rows == 12 and len(a["x"][0]) == 9
    assert not set(map(str, a["x"].to_pylist())) & set(map(str, b["x"].to_pylist()))
    for name, reason in (
        ("my_decoder:none", "cannot be imported"),
        ("nowhere.at_all:made", "cannot be imported"),
        ("my_decoder:number", "is a int"),
    ):
        refused = call("sample", name, "-n", 1)
        assert refused.code == 2 and reason in refused.err
