"""What one core of this machine can do: multiply-adds and copies a second, measured.

    python -m benchmarks.peak

The multiply-add loop keeps 12 vectors in registers, each its own chain: enough to hide the latency of
two multiply-adds a cycle, and few enough for the 16 registers of AVX2. The copy loop moves arrays far
larger than the last cache. CPU time of one thread, the best of several rounds, since the machine may
be shared. The clock is measured too, by a single chain: two vectors a cycle is what such cores reach.
"""

import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

CHAINS, STEPS, LATENCY = (
    12,
    4_000_000,
    4,
)  # a multiply-add takes 4 cycles on Zen 2 to 5 and since Skylake


def best(run: Callable[[], object], rounds: int = 7) -> float:
    """Least CPU seconds of a call."""
    run()
    least = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        run()
        least = min(least, time.process_time() - start)
    return least


@cache
def multiply_adds() -> float:
    """float32 multiply-adds a second on one core."""
    from streamsketch.features.kernels.vectors import WIDTH

    return CHAINS * WIDTH * _steps(CHAINS)


@cache
def _steps(chains: int) -> float:
    """Steps a second of a loop with so many vectors, each multiplied and added to once a step."""
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    from streamsketch.features.kernels import vectors as v

    def typed(typing: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            half = v.ir.Constant(v.VECTOR, [0.5] * v.WIDTH)
            start = [v.ir.Constant(v.VECTOR, [float(i)] * v.WIDTH) for i in range(chains)]
            places = [cgutils.alloca_once_value(builder, value) for value in start]
            with cgutils.for_range(builder, args[0]):
                for place in places:
                    value = builder.load(place)
                    builder.store(v._multiply_add(builder, value, half, half), place)
            total = builder.load(places[0])
            for place in places[1:]:
                total = builder.fadd(total, builder.load(place))
            return builder.extract_element(total, v.ir.Constant(v.ir.IntType(32), 0))

        return types.float32(types.intp), generate

    step = intrinsic(typed)
    loop = njit(lambda count: step(count))
    return STEPS / best(lambda: loop(STEPS))


@cache
def copies() -> float:
    """Bytes a second moved (read and written) by one core."""
    a = np.ones(1 << 25, np.float32)
    b = np.empty_like(a)
    return 2 * a.nbytes / best(lambda: np.copyto(b, a), 3)


def limit(d: float) -> float:
    """(row, frequency) pairs a second of one core: a pair needs d + 16 multiply-adds."""
    return multiply_adds() / (d + 16)


def clock() -> float:
    """Cycles a second while multiplying: one chain of multiply-adds takes LATENCY cycles a step."""
    return LATENCY * _steps(1)


def model() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(model())
    print(
        f"{multiply_adds() / 1e9:.0f} thousand million multiply-adds a second and core (float32)"
    )
    from streamsketch.features.kernels.vectors import INSTRUCTIONS, WIDTH

    print(
        f"{INSTRUCTIONS or 'generic'}: {multiply_adds() / WIDTH / clock():.2f} vectors of {WIDTH} floats multiplied "
        f"and added a cycle, at {clock() / 1e9:.2f} GHz"
    )
    print(f"{copies() / 1e9:.1f} GB a second and core copied (read + written)")
    for d in (2, 10, 64, 784):
        print(f"limit at d = {d}: {limit(d) / 1e9:.2f} thousand million pairs a second and core")
