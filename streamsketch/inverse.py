r"""A trained generator as the prior of an inverse problem.

Given measurements :math:`y = A(x) + \text{noise}` of a row that the stream could have held, the
row is sought in the range of a generator trained from the stream's sketch:

.. math:: \hat x = G(\hat z), \qquad \hat z = \arg\min_z \ell(y, A(G(z))) + \lambda \|z\|^2

(Bora, Jalal, Price, Dimakis 2017), from many starts at once. With ``deviation``, a sparse
departure :math:`\nu` from the range is sought with it (Dhar, Grover, Ermon 2018). With a second
generator the operator is found as well: blind deconvolution (Asim, Shamshad, Ahmed 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamsketch.errors import ConfigError, DataError

__all__ = ["Recovery", "recover", "recover_blind"]

Array = NDArray[np.float64]

RATE = 0.05
# Latents scored per start before any is descended from.
SCREENED = 10


@dataclass(frozen=True)
class Recovery:
    """A solved inverse problem.

    Attributes:
        x: ``(d,)`` the recovered row, in the data's units for a schema of linear numbers.
        z: ``(p,)`` its latent vector.
        residual: Data term at the solution: the squared norm of ``y - A(x)`` for Gaussian noise,
            twice the negative log-likelihood above its minimum for Poisson noise.
        in_range: ``(d,)`` the generated part ``G(z)``; equal to ``x`` without deviation.
        residuals: ``(restarts,)`` data terms of all starts, best first.
        kernel: ``(q,)`` what the second generator made (blind problems), else None.
        label: Code of the label it was found under, for a conditional generator, else None.
    """

    x: Array
    z: Array
    residual: float
    in_range: Array
    residuals: Array
    kernel: Array | None = None
    label: int | None = None


def recover(
    y: Any,
    forward: Any,
    generator: Any,
    *,
    lam: float = 1e-2,
    restarts: int = 16,
    steps: int = 400,
    deviation: bool | float = False,
    noise: Literal["gaussian", "poisson"] = "gaussian",
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Recovery:
    """Find the row in a generator's range that explains measurements.

    Args:
        y: Measurements of one row, an array of any shape.
        forward: The operator: a matrix ``(y.size, d)``; or a function from rows ``(n, d)`` to
            measurements ``(n, *y.shape)`` that torch can differentiate; or a `deepinv` physics
            (anything with a method ``A``; give ``shape`` for images).
        generator: A `Generator`, or any function from latents ``(n, p)`` to rows ``(n, d)`` with
            an attribute ``latent_dim``. A conditional one is tried under all its labels: starts
            are those that explain the measurements best, of as many draws under each.
        lam: Weight of the squared norm of the latent vector. The likeliest row has the variance
            of one measurement's error: its noise, and what the generator cannot reach.
        restarts: Starts, descended from together.
        steps: Steps of Adam.
        deviation: Whether the row may depart sparsely from the range; a number is the weight of
            the departure's absolute sum (True: 0.1).
        noise: ``"gaussian"``: least squares; ``"poisson"``: counts with mean ``A(x)``.
        shape: Shape of one row as the function or physics wants it, such as ``(1, 28, 28)``.
        seed: Seed of the starts.

    Raises:
        ConfigError: Shapes do not fit (both are shown), or an argument is out of range.
        DataError: A measurement is not finite, or negative with Poisson noise.

    Example:
        >>> def circle(z):
        ...     return torch.stack([torch.cos(z[:, 0]), torch.sin(z[:, 0])], 1)
        >>> circle.latent_dim = 1
        >>> recover([0.8], np.array([[1.0, 0.0]]), circle, lam=0.0, seed=1).x.round(2).tolist()[0]
        0.8
    """
    measured, scale = _measurements(y, noise)
    _check_numbers(lam, restarts, steps)
    problem = _Problem(measured, _operator(forward, measured, shape), scale, lam, noise)
    decode, latent = _decoder(generator)
    classes = getattr(generator, "classes", 1)
    weight = 0.1 if deviation is True else float(deviation)
    rng = torch.Generator().manual_seed(seed)
    drawn, labels = _draw(latent, restarts, classes, rng)
    starts = _screen(problem, _under(decode, labels), drawn, restarts)
    z, decode = drawn[starts], _under(decode, None if labels is None else labels[starts])
    nu = torch.zeros_like(decode(z).detach()) if weight else None
    z, nu = _descend(problem, decode, z, nu, weight, steps)
    with torch.no_grad():
        rows = decode(z)
        full = rows if nu is None else rows + nu
        terms = problem.data_term(full)
        total = terms + problem.penalty(z)
        if nu is not None:
            total += weight * nu.abs().sum(1)
    best = int(torch.argmin(total))
    return Recovery(
        x=_array(full[best]),
        z=_array(z[best]),
        residual=float(terms[best]),
        in_range=_array(rows[best]),
        residuals=_array(torch.sort(terms).values),
        label=None if labels is None else int(labels[starts[best]]),
    )


def recover_blind(
    y: Any,
    forward: Callable[[Tensor, Tensor], Tensor],
    generator: Any,
    kernels: Any,
    *,
    lam: float = 1e-3,
    lam_kernel: float = 1e-3,
    restarts: int = 16,
    steps: int = 600,
    noise: Literal["gaussian", "poisson"] = "gaussian",
    seed: int = 0,
) -> Recovery:
    """Find row and operator together: blind deconvolution with two generators.

    Args:
        y: Measurements of one row.
        forward: Function of rows ``(n, d)`` and kernels ``(n, q)`` to ``(n, *y.shape)``.
        generator: Generator of rows, as in `recover`.
        kernels: Generator of kernels ``(n, q)``.
        lam: Weight of the squared norm of the row's latent vector.
        lam_kernel: Weight of that of the kernel's.
        restarts: Starts, descended from together.
        steps: Steps of Adam on both latents.
        noise: As in `recover`.
        seed: Seed of the starts.

    Raises:
        ConfigError: Shapes do not fit, or an argument is out of range.
        DataError: A measurement is not finite, or negative with Poisson noise.
    """
    measured, scale = _measurements(y, noise)
    _check_numbers(lam, restarts, steps)
    decode, first = _decoder(generator)
    decode_kernel, second = _decoder(kernels)

    def joint(z: Tensor) -> Tensor:
        return torch.cat([decode(z[:, :first]), decode_kernel(z[:, first:])], 1)

    d = decode(torch.zeros(1, first)).shape[1]
    weights = torch.cat([torch.full((first,), lam), torch.full((second,), lam_kernel)])
    problem = _Problem(
        measured,
        lambda u: _shaped(forward(u[:, :d], u[:, d:]), measured),
        scale,
        weights,
        noise,
    )
    rng = torch.Generator().manual_seed(seed)
    drawn, _ = _draw(first + second, restarts, 1, rng)
    z = drawn[_screen(problem, joint, drawn, restarts)]
    z, _ = _descend(problem, joint, z, None, 0.0, steps)
    with torch.no_grad():
        both = joint(z)
        terms = problem.data_term(both)
        best = int(torch.argmin(terms + problem.penalty(z)))
    row = _array(both[best, :d])
    return Recovery(
        x=row,
        z=_array(z[best, :first]),
        residual=float(terms[best]),
        in_range=row,
        residuals=_array(torch.sort(terms).values),
        kernel=_array(both[best, d:]),
    )


@dataclass(frozen=True)
class _Problem:
    """Measurements, operator and data term; everything is batched over starts."""

    y: Tensor
    forward: Callable[[Tensor], Tensor]
    scale: float
    lam: Tensor | float
    noise: str

    def penalty(self, z: Tensor) -> Tensor:
        return (self.lam * z**2).sum(1)

    def data_term(self, rows: Tensor) -> Tensor:
        predicted = self.forward(rows).reshape(len(rows), -1)
        y = self.y.reshape(1, -1)
        if self.noise == "gaussian":
            return ((y - predicted) ** 2).sum(1)
        rate = predicted.clamp_min(1e-3 * self.scale)
        return 2 * (rate - y + torch.xlogy(y, y / rate)).sum(1)


def _descend(
    problem: _Problem,
    decode: Callable[[Tensor], Tensor],
    z: Tensor,
    nu: Tensor | None,
    weight: float,
    steps: int,
) -> tuple[Tensor, Tensor | None]:
    """Adam on all starts at once; the deviation by proximal steps, so that it is truly sparse."""
    z = z.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=RATE / 20)
    curvature = 0.0 if nu is None else _curvature(problem, nu)
    for _ in range(steps):
        optimizer.zero_grad()
        rows = decode(z)
        if nu is not None:
            nu = nu.detach().requires_grad_(True)
            rows = rows + nu
        loss = (problem.data_term(rows) + problem.penalty(z)).sum()
        inputs = [z] if nu is None else [z, nu]  # the weights need no gradient
        loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if nu is not None and nu.grad is not None:
            with torch.no_grad():
                moved = nu - nu.grad / curvature
                nu = torch.sign(moved) * (moved.abs() - weight / curvature).clamp_min(0)
    return z.detach(), None if nu is None else nu.detach()


def _curvature(problem: _Problem, nu: Tensor) -> float:
    """Largest curvature of the data term in the row, by power iterations on its gradient."""
    base = torch.zeros_like(nu[:1]).requires_grad_(True)
    start = torch.autograd.grad(problem.data_term(base).sum(), base)[0]
    vector = torch.ones_like(base) / np.sqrt(base.numel())
    length = 1.0
    for _ in range(15):
        there = (base.detach() + 1e-2 * vector).requires_grad_(True)
        moved = torch.autograd.grad(problem.data_term(there).sum(), there)[0] - start
        length = float(moved.norm()) / 1e-2
        if not 0 < length < np.inf:
            return 1e6
        vector = moved / moved.norm()
    return 1.1 * length


def _draw(
    latent: int, restarts: int, classes: int, rng: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Latents of the prior to start from, and labels that take turns."""
    z = torch.randn(SCREENED * restarts, latent, generator=rng)
    return z, torch.arange(len(z)) % classes if classes > 1 else None


def _under(decode: Callable[..., Tensor], labels: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The decoder of a conditional generator under given labels, one for each latent."""
    return decode if labels is None else lambda z: decode(z, labels)


def _screen(
    problem: _Problem, decode: Callable[[Tensor], Tensor], z: Tensor, restarts: int
) -> Tensor:
    """Numbers of the latents that explain the measurements best."""
    with torch.no_grad():
        terms = problem.data_term(decode(z))
    if not torch.isfinite(terms).any():
        raise ConfigError(
            "the forward operator gives no finite value for any generated row; check its units"
        )
    return torch.argsort(terms.nan_to_num(torch.inf))[:restarts]


def _measurements(y: Any, noise: str) -> tuple[Tensor, float]:
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


def _check_numbers(lam: float, restarts: int, steps: int) -> None:
    if not lam >= 0:
        raise ConfigError(f"lam = {lam} must be zero or more")
    for name, value in (("restarts", restarts), ("steps", steps)):
        if value < 1:
            raise ConfigError(f"{name} = {value} must be at least 1")


def _operator(
    forward: Any, y: Tensor, shape: tuple[int, ...] | None
) -> Callable[[Tensor], Tensor]:
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
        shaped = rows if shape is None else rows.reshape(-1, *shape)
        return _shaped(function(shaped), y)

    return call


def _shaped(predicted: Tensor, y: Tensor) -> Tensor:
    if predicted[0].numel() != y.numel():
        raise ConfigError(
            f"the forward operator gives measurements of shape {tuple(predicted.shape[1:])}, but "
            f"y has shape {tuple(y.shape)}; make them agree"
        )
    return predicted


def _decoder(generator: Any) -> tuple[Callable[..., Tensor], int]:
    """A function from latents to rows in the data's units, and the latent dimension."""
    latent = getattr(generator, "latent_dim", None)
    if latent is None:
        raise ConfigError(
            f"the generator is a {type(generator).__name__} without latent_dim; set that attribute"
        )
    decode = getattr(generator, "decode_latent", generator)
    schema = getattr(generator, "schema", None)
    if schema is None:
        return decode, int(latent)
    from streamsketch.decode.space import Space

    space = Space.of(schema, schema.d)
    center = torch.as_tensor(space.center, dtype=torch.float32)
    scale = torch.as_tensor(space.scale, dtype=torch.float32)
    return lambda z, *labels: center + scale * decode(z, *labels), int(latent)


def _array(value: Tensor) -> Array:
    return value.detach().cpu().double().numpy()
