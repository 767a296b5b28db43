"""The fast CPU backend: the compiled kernels of `fused`, over threads and slabs of rows."""

import logging
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.kernels import ONE

if TYPE_CHECKING:
    from streamsketch.features import Spec

__all__ = ["block_rows", "by_rows", "in_turns", "kernel", "prepare", "slabs", "sum_features", "threads"]

log = logging.getLogger(__name__)

F32 = NDArray[np.float32]
SLAB = 1 << 18  # rows converted to float32 at a time, when they come in another type
WORTH_A_THREAD = 1 << 20  # (row, frequency) pairs below which a second thread costs more than it brings


def threads() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the cores this process may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=None)
def kernel(name: str) -> Callable[..., None]:
    """A compiled kernel of `fused`; compiled once a machine, with a message, and kept on disk."""
    from streamsketch.kernels import fused

    dispatcher: Any = getattr(fused, name)
    folder = dispatcher.stats.cache_path
    known = folder is not None and any(Path(folder).glob(f"fused.{name}-*.nbi"))
    if not known:
        log.info("compiling the kernel %s for this machine: a few seconds, once", name)
    start = time.perf_counter()
    dispatcher.compile(fused.SIGNATURES[name])
    dispatcher.disable_compile()
    if not known:
        log.info("compiled %s in %.1f s, kept in %s", name, time.perf_counter() - start, folder or "memory only")
    ready: Callable[..., None] = dispatcher
    return ready


def in_turns(omega: NDArray[np.floating[Any]]) -> F32:
    """Frequencies (d, m) over 2 pi in float32, both sizes padded with zeros to multiples of 4.

    Raises:
        ConfigError: Frequencies so large that a phase could overflow float32.
    """
    d, m = omega.shape
    w = np.zeros((-(-d // 4) * 4, -(-m // 4) * 4), np.float32)
    np.divide(omega, 2 * np.pi, out=w[:d, :m], casting="unsafe")
    if not np.abs(w).max() * d < 1e22:
        raise ConfigError("frequencies are too large for float32 phases (1e22 and more); enlarge the kernel scale")
    return w


def block_rows(d: int, buffers: int = 1, most: int = 1024) -> int:
    """Rows per block, so that `buffers` arrays (d, rows) stay in the second-level cache."""
    return int(np.clip(2 ** int(np.log2((1 << 19) / (4 * d * buffers))), 32, most))


def by_rows(work: Callable[[int, int, int], None], n: int, parts: int, block: int) -> None:
    """Run work(part, start, stop) over n rows, split into at most `parts` threads at multiples of `block`."""
    step = max(block, -(-n // (parts * block)) * block) if n > block else -(-n // max(parts, 1))
    spans = [(i, i * step, min((i + 1) * step, n)) for i in range(-(-n // step))]
    others = [threading.Thread(target=work, args=span) for span in spans[1:]]
    for t in others:
        t.start()
    work(*spans[0])
    for t in others:
        t.join()


def slabs(x: NDArray[Any]) -> "list[tuple[int, int]]":
    """Spans of rows to convert one after the other; one span when nothing needs converting."""
    if x.dtype == np.float32 and x.flags.aligned:
        return [(0, len(x))]
    return [(i, min(i + SLAB, len(x))) for i in range(0, len(x), SLAB)]


def prepare(omega: NDArray[np.float64], spec: "Spec | None" = None) -> Callable[[NDArray[Any]], NDArray[np.int64]]:
    """The sum of features over rows for given frequencies, ready to be called many times.

    Args:
        omega: (d, m) frequencies, radians per unit of length.
        spec: Not needed here.

    Returns:
        A function from finite rows (n, d), of any real type and layout, to the int64 sums (2m,).
        The phase of a row is accurate to (d + 2) 2^-24 times the sum of |omega_k x_k|, features
        to 3e-7 beyond that; then they are truncated to 2^-16.
    """
    from streamsketch.kernels import fused

    run = kernel("sum_dense")
    w, (d, m) = in_turns(omega), omega.shape
    unit = fused.polynomials(ONE)
    block = block_rows(w.shape[0])

    def sum_rows(x: NDArray[Any]) -> NDArray[np.int64]:
        parts = min(threads(), max(1, len(x) * m // WORTH_A_THREAD))
        totals = np.zeros((parts, 2, w.shape[1]), np.int64)
        for first, last in slabs(x):
            rows = np.asarray(x[first:last], np.float32)

            def work(part: int, start: int, stop: int, rows: F32 = rows) -> None:
                run(rows, start, stop, block, w, unit, totals[part])

            by_rows(work, len(rows), parts, block)
        return totals.sum(axis=0)[:, :m].reshape(-1)

    return sum_rows


def sum_features(x: NDArray[Any], omega: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sum over rows (n, d) of the features truncated to multiples of 2^-16; int64 (2m,)."""
    if not len(x):
        return np.zeros(2 * omega.shape[1], np.int64)
    return prepare(omega)(x)
