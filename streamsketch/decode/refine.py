"""The last steps of a decoding: damped Gauss-Newton, then optimal weighting.

The entries of a sketch are means of correlated features: their covariance is known in closed form
once a model is at hand. Weighting the residual by its inverse turns sketch matching into the
generalised method of moments (Hansen 1982), the efficient estimator given the sketch, and brings
a decoded mixture within a few thousandths of a nat per row of maximum likelihood.
"""

import numpy as np
from scipy.linalg import cho_factor, solve_triangular

from streamsketch.arrays import F64
from streamsketch.decode.atoms import Atoms, FullGaussians
from streamsketch.decode.pursuit import Fit
from streamsketch.decode.target import Target

# One unit of the fixed-point features: truncation may bias an entry by up to this much.
TRUNCATION = 2.0**-16


def sketch_covariance(target: Target, alpha: F64, means: F64, covariances: F64) -> F64:
    """Covariance ``(2m, 2m)`` of one row's cosines then sines under a Gaussian mixture.

    With ``phi`` the characteristic function, ``E cos cos' = (phi(w - w') + phi(w + w'))/2`` and
    so on (real parts; imaginary for the mixed products).

    Args:
        target: Supplies the frequencies ``(d, m)``.
        alpha: Mixture weights ``(K,)``, summing to one.
        means: ``(K, d)``.
        covariances: ``(K, d, d)``.
    """
    omega, m = target.omega, target.m
    minus = np.zeros((m, m), dtype=np.complex128)
    plus = np.zeros((m, m), dtype=np.complex128)
    mean = np.zeros(m, dtype=np.complex128)
    for weight, center, covariance in zip(alpha, means, covariances, strict=True):
        gram = omega.T @ covariance @ omega
        half = 0.5 * (np.diag(gram)[:, None] + np.diag(gram)[None, :])
        turn = np.exp(1j * (center @ omega))
        minus += weight * np.exp(gram - half) * np.outer(turn, turn.conj())
        plus += weight * np.exp(-gram - half) * np.outer(turn, turn)
        mean += weight * turn * np.exp(-0.5 * np.diag(gram))
    covariance = np.empty((2 * m, 2 * m))
    covariance[:m, :m] = (minus.real + plus.real) / 2
    covariance[m:, m:] = (minus.real - plus.real) / 2
    covariance[:m, m:] = (plus.imag - minus.imag) / 2
    covariance[m:, :m] = covariance[:m, m:].T
    stacked = np.concatenate([mean.real, mean.imag])
    covariance -= np.outer(stacked, stacked)
    return covariance


def whitener(target: Target, covariance: F64, cost: float) -> F64:
    """Lower Cholesky factor of the covariance of the sketch's error.

    What the model does not explain beyond the sampling error (``cost`` above the floor) is taken
    as extra white error, so that a wrong model is not pushed into directions it cannot fit.
    """
    sampling = covariance / target.count
    misfit = max(cost - target.floor, 0.0) / (2 * target.m)
    ridge = (
        target.noise_std**2 + misfit + TRUNCATION**2 + 1e-6 * np.trace(sampling) / len(sampling)
    )
    sampling[np.diag_indices_from(sampling)] += ridge
    factor: F64 = np.tril(cho_factor(sampling, lower=True, overwrite_a=True)[0])
    return factor


class GaussNewton:
    """Levenberg-Marquardt on ``|| F^-1 (z - sum alpha_k a(theta_k)) ||^2`` with boxes."""

    def __init__(self, target: Target, family: Atoms, factor: F64 | None = None) -> None:
        self.family = family
        self.factor = factor
        self.z = np.concatenate([target.z.real, target.z.imag])
        self.box = family.box(target.low, target.high)
        # The sketch at frequency zero is exactly one: weights sum to one, up to rounding.
        self.unit = 1e3 * np.sqrt(target.m) if factor is None else 1e6

    def _whiten(self, values: F64) -> F64:
        if self.factor is None:
            return values
        result: F64 = solve_triangular(self.factor, values, lower=True, check_finite=False)
        return result

    def residual(self, theta: F64, alpha: F64) -> F64:
        """Whitened residual ``(2m + 1,)``; the last entry holds the weights to a sum of one."""
        re, im = self.family.atoms(theta)
        left = self._whiten(self.z - np.concatenate([alpha @ re, alpha @ im]))
        return np.append(left, self.unit * (1 - alpha.sum()))

    def jacobian(self, theta: F64, alpha: F64) -> F64:
        """``-d residual / d(theta, alpha)``, ``(2m + 1, K size + K)``."""
        re, im = self.family.atoms(theta)
        atoms = re + 1j * im
        moved = (alpha[:, None] * atoms)[:, None, :] * self.family.rates(theta)
        rows = np.concatenate([moved.reshape(theta.size, -1), atoms])
        stacked = self._whiten(np.concatenate([rows.real, rows.imag], axis=1).T)
        last = np.concatenate([np.zeros(theta.size), np.full(len(alpha), self.unit)])
        result: F64 = np.concatenate([stacked, last[None]])
        return result

    def run(self, fit: Fit, steps: int = 25, tolerance: float = 1e-6) -> tuple[F64, F64]:
        """``theta`` and ``alpha`` after at most ``steps`` accepted steps."""
        shape = fit.theta.shape
        x = np.concatenate([fit.theta.ravel(), fit.weights / fit.weights.sum()])
        low = np.concatenate([np.tile(self.box[:, 0], shape[0]), np.full(shape[0], 1e-9)])
        high = np.concatenate([np.tile(self.box[:, 1], shape[0]), np.full(shape[0], 1.0)])
        x = np.clip(x, low, high)
        split = fit.theta.size
        left = self.residual(x[:split].reshape(shape), x[split:])
        damping = 1e-3
        for _ in range(steps):
            slope = self.jacobian(x[:split].reshape(shape), x[split:])
            pull = slope.T @ left
            free = ~(((x <= low) & (pull < 0)) | ((x >= high) & (pull > 0)))
            normal = slope[:, free].T @ slope[:, free]
            before = float(left @ left)
            for _ in range(8):
                trial = x.copy()
                trial[free] += _damped(normal, pull[free], damping)
                trial = np.clip(trial, low, high)
                new_left = self.residual(trial[:split].reshape(shape), trial[split:])
                after = float(new_left @ new_left)
                if after < before:
                    break
                damping *= 6
            else:
                break
            x, left, damping = trial, new_left, max(damping / 5, 1e-9)
            if before - after < tolerance * before:
                break
        return x[:split].reshape(shape), x[split:]

    def parameter_covariance(self, theta: F64, alpha: F64) -> F64:
        """Covariance of ``(theta, alpha)`` given a whitening factor: the inverse information."""
        slope = self.jacobian(theta, alpha)
        normal = slope.T @ slope
        scale = 1 / np.sqrt(np.diag(normal) + 1e-300)
        inverse = np.linalg.pinv(normal * scale[:, None] * scale, rcond=1e-10, hermitian=True)
        return np.asarray(inverse * scale[:, None] * scale)


def resolution(theta: F64, family: FullGaussians, covariances: F64, error: F64) -> F64:
    """Covariances whose eigenvalues are at least half of their own standard errors.

    A direction much narrower than the sketch can resolve would come out with any tiny variance,
    and the log-density of the mixture would be ruined by it.

    Args:
        theta: Decoded atoms ``(K, size)``.
        family: Their family.
        covariances: ``(K, d, d)``.
        error: Covariance of the parameters, atoms first.
    """
    factors = family.factors(theta)
    lifted = np.empty_like(covariances)
    for k, (factor, covariance) in enumerate(zip(factors, covariances, strict=True)):
        values, vectors = np.linalg.eigh(covariance)
        # d lambda_v = 2 v_r (L^T v)_c dL_rc
        slope = 2 * vectors[family.rows].T * (factor.T @ vectors)[family.columns].T
        start = k * family.size + family.d
        block = error[start : k * family.size + family.size, start : k * family.size + family.size]
        deviation = np.sqrt(np.maximum(np.einsum("vi,ij,vj->v", slope, block, slope), 0.0))
        values = np.maximum(values, 0.5 * deviation)
        lifted[k] = (vectors * values) @ vectors.T
    return lifted


def _damped(normal: F64, pull: F64, damping: float) -> F64:
    matrix = normal.copy()
    diagonal = np.diag(normal)
    matrix[np.diag_indices_from(matrix)] += damping * (diagonal + 1e-9 * diagonal.max())
    return np.asarray(np.linalg.solve(matrix, pull), np.float64)
