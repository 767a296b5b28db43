"""The inner loops keep their sums in registers: read off the machine code, for each instruction set."""

import os
import platform
import re
import subprocess
import sys

import pytest

TARGETS = {  # a processor of each set, and what it must be told to have
    "avx512f": ("skylake-avx512", "+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx2,+fma"),
    "avx2": ("haswell", "+avx2,+fma"),
}
PROGRAM = """
from streamsketch.features.kernels import fused
from streamsketch.features.kernels.vectors import INSTRUCTIONS
fused.sum_dense.compile(fused.SIGNATURES["sum_dense"])
print(INSTRUCTIONS)
print(next(iter(fused.sum_dense.inspect_asm().values())))
"""


def loops(code: str) -> list[list[str]]:
    """Blocks of instructions that end in a jump back to their own label."""
    found, label, block = [], "", []
    for line in code.splitlines():
        start = re.match(r"^(\S+):", line)
        if start:
            label, block = start[1], []
            continue
        block.append(line.strip())
        if re.match(rf"\s*j\w+\s+{re.escape(label)}$", line) and label:
            found.append(list(block))
    return found


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of one family")
@pytest.mark.parametrize("name", TARGETS)
def test_no_sum_of_the_projection_leaves_its_register(name, tmp_path):
    processor, features = TARGETS[name]
    env = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    instructions, code = done.stdout.split("\n", 1)
    assert instructions == name
    products = [b for b in loops(code) if sum("vbroadcastss" in line for line in b) >= 4]
    assert products, "the loop of the projection was not found"
    for block in products:
        assert sum("vfmadd" in line for line in block) >= 12
        vectors = [line for line in block if re.search(r"%[yz]mm", line)]
        assert not [line for line in vectors if re.search(r"\(%r[sb]p", line)]
