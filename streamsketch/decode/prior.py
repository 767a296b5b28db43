"""Where the mass of a sketched distribution lies, from its lowest frequencies."""

import numpy as np
from scipy.optimize import minimize, nnls

from streamsketch.arrays import F64
from streamsketch.decode.atoms import DiagonalGaussians
from streamsketch.decode.target import Target


def moments(target: Target, rng: np.random.Generator) -> tuple[F64, F64]:
    """Approximate mean ``(d,)`` and per-axis variance ``(d,)`` of the sketched rows.

    For small ``w``, ``log|z(w)| = -1/2 w^T C w`` and ``arg z(w) = w.mu`` to third order. The
    variance is a nonnegative regression of ``log|z|`` on ``w^2`` over the frequencies of largest
    modulus; the mean is fitted on the phases of the same frequencies, by descent from the best of
    many points of the box, since phases wrap.
    """
    width = target.high - target.low
    modulus = np.abs(target.z)
    noise = 3 * np.sqrt(target.floor / target.m)
    use = np.argsort(-modulus)[: max(4 * target.d + 8, target.m // 20)]
    use = use[modulus[use] > max(noise, 0.05)]
    if len(use) < 2:
        return 0.5 * (target.low + target.high), width**2 / 12
    omega, z = target.omega[:, use], target.z[use]
    weight = modulus[use]
    variance = nnls(
        weight[:, None] * 0.5 * (omega**2).T, -weight * np.log(np.minimum(modulus[use], 1.0))
    )[0]
    variance = np.clip(variance, 1e-6 * width**2, width**2 / 4)

    family = DiagonalGaussians(omega)
    points = rng.uniform(target.low, target.high, (300, target.d))
    points[0] = 0.5 * (target.low + target.high)
    re, im = family.atoms(family.start(points, variance))
    order = np.argsort(-(re @ z.real + im @ z.imag))[:5]

    def objective(mean: F64) -> tuple[float, F64]:
        theta = family.start(mean[None], variance)
        re, im = family.atoms(theta)
        left_re, left_im = z.real - re, z.imag - im
        gradient = family.gradient(theta, re, im, -2 * left_re, -2 * left_im)[0, : target.d]
        return float((left_re**2 + left_im**2).sum()), gradient

    bounds = np.stack([target.low, target.high], axis=1)
    found = [
        minimize(objective, points[i], jac=True, method="L-BFGS-B", bounds=bounds) for i in order
    ]
    mean: F64 = np.asarray(min(found, key=lambda f: float(f.fun)).x)
    return mean, variance
