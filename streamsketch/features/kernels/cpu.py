"""The fast CPU backend: the compiled kernels of `fused`, over threads and slabs of rows."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32
from streamsketch.errors import ConfigError, DataError
from streamsketch.features.kernels import NOT_FINITE, ONE

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec

__all__ = [
    "DenseSum",
    "block_rows",
    "by_rows",
    "in_turns",
    "kernel",
    "prepare",
    "slabs",
    "threads",
]

log = logging.getLogger(__name__)

Run = Callable[[F32, int, int, NDArray[np.int64]], int]
SLAB = 1 << 22  # values converted to float32 at a time, when they come in another type
SPARSE_FROM = 24  # coordinates of a row
SPARSE_SHARE = 0.2  # of them may be other than 0
SPARSE_BLOCK = 512  # rows
COMPILING = threading.Lock()
HOMES = {
    "sum_dense": "fused",
    "sum_gradient": "fused",
    "sum_sparse": "fused_sparse",
    "sum_harmonic": "fused_structured",
    "sum_hadamard": "fused_structured",
}
WORTH_A_THREAD = (
    1 << 20
)  # (row, frequency) pairs below which a second thread costs more than it brings


def threads() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the cores this process may use."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


@cache
def kernel(name: str) -> Callable[..., int]:
    """A compiled kernel; compiled once a machine, with a message, and kept on disk."""
    home = import_module(f"streamsketch.features.kernels.{HOMES[name]}")
    dispatcher: Any = getattr(home, name)
    with COMPILING:
        if not dispatcher.signatures:
            folder = dispatcher.stats.cache_path
            known = folder is not None and any(Path(folder).glob(f"{HOMES[name]}.{name}-*.nbi"))
            if not known:
                log.info("compiling the kernel %s for this machine: a few seconds, once", name)
            start = time.perf_counter()
            dispatcher.compile(home.SIGNATURES[name])
            dispatcher.disable_compile()
            if not known:
                spent = time.perf_counter() - start
                log.info("compiled %s in %.1f s, kept in %s", name, spent, folder or "memory only")
    ready: Callable[..., int] = dispatcher
    return ready


def in_turns(omega: NDArray[np.floating[Any]]) -> F32:
    """Frequencies (d, m) over 2 pi in float32, in tiles of 4: (tiles, d, 4), filled with zeros.

    Raises:
        ConfigError: Frequencies so large that a phase could overflow float32.
    """
    d, m = omega.shape
    tiles = -(-m // 4)
    w = np.zeros((d, 4 * tiles), np.float32)
    np.divide(omega, 2 * np.pi, out=w[:, :m], casting="unsafe")
    if not np.abs(w).max() * d < 1e22:
        raise ConfigError(
            "frequencies are too large for float32 phases (over 1e22); enlarge the kernel scale"
        )
    return np.ascontiguousarray(w.reshape(d, tiles, 4).transpose(1, 0, 2))


def block_rows(d: int, buffers: int = 1, most: int = 1024) -> int:
    """Rows per block, so that `buffers` arrays (d, rows) stay in the second-level cache."""
    return int(np.clip(2 ** int(np.log2((1 << 19) / (4 * d * buffers))), 32, most))


def by_rows(work: Callable[[int, int, int], int], n: int, parts: int, block: int) -> int:
    """Run work(part, start, stop) over n rows on at most `parts` threads, in whole blocks.

    Returns the sum of what the parts return; an exception of any part is raised here.
    """
    step = -(-n // (parts * block)) * block
    spans = [(i, i * step, min((i + 1) * step, n)) for i in range(-(-n // step))]
    if len(spans) == 1:
        return work(*spans[0])
    with ThreadPoolExecutor(len(spans) - 1) as pool:
        others = [pool.submit(work, *span) for span in spans[1:]]
        return work(*spans[0]) + sum(other.result() for other in others)


def as_float32(x: NDArray[Any]) -> F32:
    """Rows in float32; what is too large for it becomes infinite, to be refused by the kernel."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32)


def slabs(x: NDArray[Any]) -> "list[tuple[int, int]]":
    """Spans of rows to convert one after the other; one span when nothing needs converting."""
    if x.dtype == np.float32 and x.flags.aligned:
        return [(0, len(x))]
    rows = max(1, SLAB // x.shape[1])
    return [(i, min(i + rows, len(x))) for i in range(0, len(x), rows)]


def sum_rows(run: Run, x: NDArray[Any], width: int, block: int) -> NDArray[np.int64]:
    """Totals (2, width) of a kernel over rows (n, d) of any real type and layout.

    Args:
        run: run(x, start, stop, total) adds rows start..stop of float32 rows and returns how many
            of their values were not finite.
        x: (n, d) rows.
        width: Columns of the totals.
        block: Rows of one block of the kernel.

    Raises:
        DataError: A value is not finite; nothing was summed.
    """
    parts = min(threads(), max(1, len(x) * width // WORTH_A_THREAD))
    totals = np.zeros((parts, 2, width), np.int64)
    for first, last in slabs(x):
        rows = as_float32(x[first:last])

        def work(part: int, start: int, stop: int, rows: F32 = rows) -> int:
            return run(rows, start, stop, totals[part])

        if by_rows(work, len(rows), parts, block):
            raise DataError(NOT_FINITE)
    total: NDArray[np.int64] = totals.sum(axis=0)
    return total


def mostly_zeros(x: NDArray[Any]) -> bool:
    """Whether the kernel of sparse rows is faster: as for the one-hots of tables; its sums are the same."""
    if x.shape[1] < SPARSE_FROM:
        return False
    sample = x[:: max(1, len(x) // 64)]
    return bool(np.count_nonzero(sample) < SPARSE_SHARE * sample.size)


@dataclass(frozen=True)
class DenseSum:
    """The sum of features over rows for given frequencies, ready to be called many times.

    The phase of a row is accurate to (d + 2) 2^-24 times the sum of |omega_k x_k| radians, the
    features to 7e-7 beyond that; then they are truncated to 2^-16.

    Attributes:
        w: (tiles, d, 4) frequencies in turns, as `in_turns` makes them.
        m: Number of frequencies.
    """

    w: F32
    m: int

    def __call__(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Sums (2m,); see `sum_rows`."""
        from streamsketch.features.kernels.fused import NOTHING, polynomials

        sparse = mostly_zeros(x)
        w = self._chunks if sparse else self.w
        kern, unit = kernel("sum_sparse" if sparse else "sum_dense"), polynomials(ONE)
        rest = () if sparse else (NOTHING,)
        block = SPARSE_BLOCK if sparse else block_rows(w.shape[1])

        def run(rows: F32, start: int, stop: int, total: NDArray[np.int64]) -> int:
            return kern(rows, start, stop, block, w, unit, total, *rest)

        return sum_rows(run, x, w.shape[0] * w.shape[2], block)[:, : self.m].reshape(-1)

    @cached_property
    def _chunks(self) -> F32:
        """The frequencies as the kernel of sparse rows takes them: (chunks, d, GATHERED)."""
        from streamsketch.features.kernels.vectors import GATHERED

        tiles, d, _ = self.w.shape
        chunks = -(-4 * tiles // GATHERED)
        w = np.zeros((d, chunks * GATHERED), np.float32)
        w[:, : 4 * tiles] = self.w.transpose(1, 0, 2).reshape(d, -1)
        return np.ascontiguousarray(w.reshape(d, chunks, GATHERED).transpose(1, 0, 2))


def prepare(omega: NDArray[np.float64], spec: "Spec | None" = None) -> DenseSum:
    """The compiled sum for frequencies (d, m)."""
    return DenseSum(in_turns(omega), omega.shape[1])
