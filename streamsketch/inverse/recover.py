r"""A trained generator as the prior of an inverse problem.

Given measurements :math:`y = A(x) + \text{noise}` of a row that the stream could have held, the
row is sought in the range of a generator trained from the stream's sketch:

.. math:: \hat x = G(\hat z), \qquad \hat z = \arg\min_z \ell(y, A(G(z))) + \lambda \|z\|^2

(Bora, Jalal, Price, Dimakis 2017), from many starts at once. With ``deviation``, a sparse
departure :math:`\nu` from the range is sought with it (Dhar, Grover, Ermon 2018). With a second
generator the operator is found as well: blind deconvolution (Asim, Shamshad, Ahmed 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError
from streamsketch.inverse.problem import Problem, check_numbers, measurements, operator, shaped
from streamsketch.inverse.solve import solve
from streamsketch.latent import LatentModel

__all__ = ["Recovery", "recover", "recover_blind"]


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

    x: F64
    z: F64
    residual: float
    in_range: F64
    residuals: F64
    kernel: F64 | None = None
    label: int | None = None


def recover(
    y: Any,
    forward: Any,
    generator: LatentModel | Callable[..., Tensor],
    *,
    lam: float = 1e-2,
    restarts: int = 16,
    steps: int = 400,
    deviation: bool | float = False,
    noise: Literal["gaussian", "poisson"] = "gaussian",
    shape: tuple[int, ...] | None = None,
    penalty: Callable[[Tensor], Tensor] | None = None,
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
        penalty: A further regulariser: generated rows ``(n, d)`` to ``(n,)``, differentiable, such
            as total variation, or a critic that was trained to tell real rows (`critic`).
        seed: Seed of the starts.

    Raises:
        ConfigError: Shapes do not fit (both are shown), or an argument is out of range.
        DataError: A measurement is not finite, or negative with Poisson noise.

    Example:
        >>> import numpy as np
        >>> def circle(z):
        ...     return torch.stack([torch.cos(z[:, 0]), torch.sin(z[:, 0])], 1)
        >>> circle.latent_dim = 1
        >>> recover([0.8], np.array([[1.0, 0.0]]), circle, lam=0.0, seed=1).x.round(2).tolist()[0]
        0.8
    """
    measured, scale = measurements(y, noise)
    check_numbers(lam, restarts, steps)
    apply = operator(forward, measured, shape)
    problem = Problem(measured, apply, scale, lam, noise, penalty)
    decode, latent = _decoder(generator)
    weight = 0.1 if deviation is True else float(deviation)
    s = solve(problem, decode, latent, _classes(generator), restarts, steps, seed, weight)
    return Recovery(
        x=_array(s.full[s.best]),
        z=_array(s.z[s.best]),
        residual=float(s.terms[s.best]),
        in_range=_array(s.rows[s.best]),
        residuals=_array(torch.sort(s.terms).values),
        label=None if s.labels is None else int(s.labels[s.best]),
    )


def recover_blind(
    y: Any,
    forward: Callable[[Tensor, Tensor], Tensor],
    generator: LatentModel | Callable[..., Tensor],
    kernels: LatentModel | Callable[..., Tensor],
    *,
    lam: float = 1e-3,
    lam_kernel: float = 1e-3,
    restarts: int = 16,
    steps: int = 600,
    noise: Literal["gaussian", "poisson"] = "gaussian",
    penalty: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Recovery:
    """Find row and operator together: blind deconvolution with two generators.

    Args:
        y: Measurements of one row.
        forward: Function of rows ``(n, d)`` and kernels ``(n, q)`` to ``(n, *y.shape)``.
        generator: Generator of rows, as in `recover`; a conditional one under all its labels.
        kernels: Generator of kernels ``(n, q)``.
        lam: Weight of the squared norm of the row's latent vector.
        lam_kernel: Weight of that of the kernel's.
        restarts: Starts, descended from together.
        steps: Steps of Adam on both latents.
        noise: As in `recover`.
        penalty: As in `recover`, of the row.
        seed: Seed of the starts.

    Raises:
        ConfigError: Shapes do not fit, or an argument is out of range.
        DataError: A measurement is not finite, or negative with Poisson noise.
    """
    measured, scale = measurements(y, noise)
    check_numbers(lam, restarts, steps)
    decode, first = _decoder(generator)
    decode_filter, second = _decoder(kernels)
    classes = _classes(generator)

    def joint(z: Tensor, *labels: Tensor) -> Tensor:
        return torch.cat([decode(z[:, :first], *labels), decode_filter(z[:, first:])], 1)

    some = [torch.zeros(1, dtype=torch.long)] if classes > 1 else []
    with torch.no_grad():
        d = decode(torch.zeros(1, first), *some).shape[1]
    problem = Problem(
        measured,
        lambda both: shaped(forward(both[:, :d], both[:, d:]), measured),
        scale,
        torch.cat([torch.full((first,), lam), torch.full((second,), lam_kernel)]),
        noise,
        None if penalty is None else lambda both: penalty(both[:, :d]),
    )
    s = solve(problem, joint, first + second, classes, restarts, steps, seed)
    row = _array(s.rows[s.best, :d])
    return Recovery(
        x=row,
        z=_array(s.z[s.best, :first]),
        residual=float(s.terms[s.best]),
        in_range=row,
        residuals=_array(torch.sort(s.terms).values),
        kernel=_array(s.rows[s.best, d:]),
        label=None if s.labels is None else int(s.labels[s.best]),
    )


def _classes(generator: Any) -> int:
    return int(getattr(generator, "classes", 1))


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


def _array(value: Tensor) -> F64:
    return value.detach().cpu().double().numpy()
