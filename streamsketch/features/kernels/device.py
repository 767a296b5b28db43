"""Backends through torch: plain torch in blocks, on a GPU where there is one, and Triton.

The plain backend does every operation elementwise, in a fixed order (no matrix product), so that a
row's bits do not depend on its block. It is for machines without numba and for checking.

`triton` is the fused kernel of `triton_kernels`; it needs a GPU, or Triton's interpreter. It has
been tested through the interpreter only, so nothing chooses it by itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import DataError
from streamsketch.features.kernels import NOT_FINITE, ONE

if TYPE_CHECKING:
    import torch

    from streamsketch.features.spec import Spec

__all__ = ["TorchSum", "TritonSum", "prepare", "prepare_triton"]

CELLS = 1 << 20  # phases at a time
LIMIT = 1e15  # as X_LIMIT of `fused`
TRITON_ROWS = 1 << 16  # rows sent to the device at a time


def device() -> "torch.device":
    """The GPU where torch has one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rows_on(x: NDArray[Any], where: "torch.device") -> "torch.Tensor":
    """Rows (n, d) as float32 on a device, cut to +-1e15.

    Raises:
        DataError: A value is not finite.
    """
    import torch

    with np.errstate(over="ignore"):  # refused below
        rows = torch.from_numpy(np.array(x, np.float32)).to(where)
    if not bool(torch.isfinite(rows).all()):
        raise DataError(NOT_FINITE)
    return rows.clamp_(-LIMIT, LIMIT)


@dataclass(frozen=True)
class TorchSum:
    """The sum of features over rows in plain torch.

    Attributes:
        w: (d, m) frequencies in turns, float32, on the device to use.
    """

    w: "torch.Tensor"

    def __call__(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Sums (2m,) over rows (n, d) of any real type.

        Raises:
            DataError: A value is not finite; nothing was summed.
        """
        import torch

        d, m = self.w.shape
        total = torch.zeros(2, m, dtype=torch.int64, device=self.w.device)
        step = max(1, CELLS // m)
        for start in range(0, len(x), step):
            rows = rows_on(x[start : start + step], self.w.device)
            turns = rows[:, :1] * self.w[0]
            for k in range(1, d):
                turns += rows[:, k : k + 1] * self.w[k]
            angle = (turns - turns.round()) * (2 * np.pi)
            total[0] += (angle.cos() * ONE).to(torch.int32).sum(dim=0)
            total[1] += (angle.sin() * ONE).to(torch.int32).sum(dim=0)
        return total.view(-1).cpu().numpy()


@dataclass(frozen=True)
class TritonSum:
    """The sum of features over rows with the fused GPU kernel.

    Attributes:
        w: (d, m) frequencies in turns, float32, on the GPU.
    """

    w: "torch.Tensor"

    def __call__(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Sums (2m,) over rows (n, d) of any real type.

        Raises:
            DataError: A value is not finite; nothing was summed.
        """
        import torch

        from streamsketch.features.kernels.triton_kernels import sum_features

        total = torch.zeros(2, self.w.shape[1], dtype=torch.int64, device=self.w.device)
        for start in range(0, len(x), TRITON_ROWS):
            rows = rows_on(x[start : start + TRITON_ROWS], self.w.device)
            sum_features(rows, self.w, float(ONE), total)
        return total.view(-1).cpu().numpy()


def turns(omega: NDArray[np.float64]) -> "torch.Tensor":
    """Frequencies (d, m) over 2 pi, float32, on the device."""
    import torch

    return torch.from_numpy((omega / (2 * np.pi)).astype(np.float32)).to(device())


def prepare(omega: NDArray[np.float64], spec: "Spec | None" = None) -> TorchSum:
    """The plain torch sum for frequencies (d, m)."""
    return TorchSum(turns(omega))


def prepare_triton(omega: NDArray[np.float64], spec: "Spec | None" = None) -> TritonSum:
    """The fused GPU sum for frequencies (d, m)."""
    return TritonSum(turns(omega))
