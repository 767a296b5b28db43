"""Measurements, the operator that made them, and what a candidate row costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamsketch.errors import ConfigError, DataError

__all__ = ["Problem", "check_numbers", "measurements", "operator", "shaped"]


@dataclass(frozen=True)
class Problem:
    """Measurements, operator and data term; everything is batched over starts."""

    y: Tensor
    forward: Callable[[Tensor], Tensor]
    scale: float
    lam: Tensor | float
    noise: str
    penalty: Callable[[Tensor], Tensor] | None = None

    def prior(self, z: Tensor, rows: Tensor) -> Tensor:
        """What is added to the data term of latents z and their rows: (n,)."""
        norm = (self.lam * z**2).sum(1)
        return norm if self.penalty is None else norm + self.penalty(rows)

    def data_term(self, rows: Tensor) -> Tensor:
        """How badly rows (n, d) explain the measurements: (n,)."""
        predicted = self.forward(rows).reshape(len(rows), -1)
        y = self.y.reshape(1, -1)
        if self.noise == "gaussian":
            return ((y - predicted) ** 2).sum(1)
        rate = predicted.clamp_min(1e-3 * self.scale)
        return 2 * (rate - y + torch.xlogy(y, y / rate)).sum(1)


def measurements(y: Any, noise: str) -> tuple[Tensor, float]:
    """Measurements as a tensor, and their mean size.

    Raises:
        ConfigError: An unknown law of the noise.
        DataError: One is not finite, or negative with Poisson noise.
    """
    if noise not in ("gaussian", "poisson"):
        raise ConfigError(f"noise = {noise!r} must be 'gaussian' or 'poisson'")
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y, np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {values.size} measurements are not finite; leave them out of y "
            "and of the forward operator (a mask does that)"
        )
    if noise == "poisson" and (values < 0).any():
        raise DataError("a measurement is negative; Poisson noise needs counts of zero or more")
    return torch.as_tensor(values, dtype=torch.float32), max(float(np.abs(values).mean()), 1e-12)


def check_numbers(lam: float, restarts: int, steps: int) -> None:
    """Refuse numbers out of range."""
    if not lam >= 0:
        raise ConfigError(f"lam = {lam} must be zero or more")
    for name, value in (("restarts", restarts), ("steps", steps)):
        if value < 1:
            raise ConfigError(f"{name} = {value} must be at least 1")


def operator(forward: Any, y: Tensor, shape: tuple[int, ...] | None) -> Callable[[Tensor], Tensor]:
    """The operator as a function of rows ``(n, d)``, whose result is checked."""
    if isinstance(forward, np.ndarray | Tensor):
        matrix = torch.as_tensor(forward, dtype=torch.float32)
        if matrix.ndim != 2 or matrix.shape[0] != y.numel():
            raise ConfigError(
                f"the forward matrix has shape {tuple(matrix.shape)}, but the measurements have "
                f"shape {tuple(y.shape)}; it needs ({y.numel()}, d)"
            )

        def apply(rows: Tensor) -> Tensor:
            if rows.shape[1] != matrix.shape[1]:
                raise ConfigError(
                    f"the forward matrix has shape {tuple(matrix.shape)}, but the generator makes "
                    f"rows of shape ({rows.shape[1]},); it needs ({y.numel()}, {rows.shape[1]})"
                )
            return rows @ matrix.T

        return apply
    function = getattr(forward, "A", forward)
    if not callable(function):
        raise ConfigError(
            f"the forward operator is a {type(forward).__name__}; give a matrix, a function, or "
            "an object with a method A"
        )

    def call(rows: Tensor) -> Tensor:
        given = rows if shape is None else rows.reshape(-1, *shape)
        return shaped(function(given), y)

    return call


def shaped(predicted: Tensor, y: Tensor) -> Tensor:
    """Predicted measurements, if they are as many as were made."""
    if predicted[0].numel() != y.numel():
        raise ConfigError(
            f"the forward operator gives measurements of shape {tuple(predicted.shape[1:])}, but "
            f"y has shape {tuple(y.shape)}; make them agree"
        )
    return predicted
