"""The peers of `benchmarks.kernels`: the same sketch and the same loss, as others would write them."""

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

BLOCK = 128  # rows a time for the peers: the best of 64 to 4096 for torch here
Run = Callable[[np.ndarray], Any]


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """Least CPU seconds of each call, and median over least, with the calls taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: (min(s), statistics.median(s) / min(s)) for name, s in spent.items()}


def torch_blocks(omega: np.ndarray, step: Callable[..., Any]) -> Run:
    w = torch.from_numpy(omega.astype(np.float32))

    def run(x: np.ndarray) -> torch.Tensor:
        rows, total = torch.from_numpy(x), torch.zeros(2, w.shape[1])
        for block in rows.split(BLOCK):
            total += step(block, w)
        return total

    return run


def eager(block: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    phase = block @ w
    return torch.stack([phase.cos().sum(dim=0), phase.sin().sum(dim=0)])


def numpy_blocks(omega: np.ndarray) -> Run:
    w = omega.astype(np.float32)

    def run(x: np.ndarray) -> np.ndarray:
        total = np.zeros((2, w.shape[1]), np.float32)
        for i in range(0, len(x), BLOCK):
            phase = x[i : i + BLOCK] @ w
            total += np.cos(phase).sum(axis=0), np.sin(phase).sum(axis=0)
        return total

    return run


def sklearn_blocks(omega: np.ndarray) -> Run:
    """RBFSampler has one cosine per component: two components stand for one frequency."""
    from sklearn.kernel_approximation import RBFSampler

    d, m = omega.shape
    sampler = RBFSampler(n_components=2 * m, random_state=0).fit(np.zeros((1, d), np.float32))

    def run(x: np.ndarray) -> np.ndarray:
        return sum(
            sampler.transform(x[i : i + BLOCK]).sum(axis=0) for i in range(0, len(x), BLOCK)
        )

    return run


def pycle_sketch(omega: np.ndarray) -> Run | None:
    try:
        import pycle.sketching as sk
    except ImportError:
        return None
    phi = sk.SimpleFeatureMap("complexExponential", omega)
    return lambda x: sk.computeSketch(x, phi)


def compiled(omega: np.ndarray, x: np.ndarray) -> Run | None:
    try:
        run = torch_blocks(omega, torch.compile(eager))
        run(x[:2048])
    except Exception as e:  # no compiler, or a version that cannot
        logging.getLogger(__name__).info("torch.compile is left out: %s", e)
        return None
    return run


def plain_loss(y: torch.Tensor, omega: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    phase = y @ omega
    mean = torch.cat([phase.cos().mean(dim=0), phase.sin().mean(dim=0)])
    return (mean - z).square().sum() / omega.shape[1]


def complex_loss(y: torch.Tensor, omega: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    m = omega.shape[1]
    mean = torch.exp(1j * (y @ omega)).mean(dim=0)
    return (mean - torch.complex(z[:m], z[m:])).abs().square().sum() / m
