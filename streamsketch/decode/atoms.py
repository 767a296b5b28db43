"""The families of atoms that a sketch is decomposed into.

An atom is the sketch of one component of a mixture: the characteristic function of a Dirac, a
Gaussian or a symmetric alpha-stable law at the frequencies of the sketch. A family knows its
parameters, their box, and the gradient of an atom with respect to them. Everything is kept as
separate real (cosine) and imaginary (sine) parts, since that is what the sketch stores and what
numpy computes fastest.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64


def curvature(family: "Atoms", theta: F64, weights: F64) -> F64:
    """``sum_j weights_j |d a_j / d theta|^2``, ``(K, size)``: it scales a descent."""
    re, im = family.atoms(theta)
    rates = family.rates(theta)
    energy = weights * (re**2 + im**2)
    result: F64 = ((rates.real**2 + rates.imag**2) @ energy[:, :, None])[:, :, 0]
    return result


class Atoms(Protocol):
    """Parametric atoms ``a(theta)``; rows of ``theta`` are components."""

    size: int

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Real and imaginary parts, both ``(K, m)``, of the atoms of ``theta`` ``(K, size)``."""
        ...

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Chain rule: from gradients on ``re`` and ``im`` ``(K, m)`` to ``(K, size)``."""
        ...

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives ``d log a / d theta``, ``(K, size, m)``."""
        ...

    def box(self, low: F64, high: F64) -> F64:
        """Bounds ``(size, 2)`` of one component, data lying in ``[low, high]`` ``(d,)``."""
        ...

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters ``(n, size)`` of atoms at ``centers`` ``(n, d)`` of per-axis ``variance``."""
        ...


class Diracs:
    """Point masses: the atoms of compressive k-means (Keriven et al. 2017)."""

    def __init__(self, omega: F64) -> None:
        self.omega = omega
        self.size = omega.shape[0]

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Characteristic functions of the components."""
        phase = theta @ self.omega
        return np.cos(phase), np.sin(phase)

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Gradient on the parameters."""
        gradient: F64 = (d_im * re - d_re * im) @ self.omega.T
        return gradient

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives."""
        return np.broadcast_to(1j * self.omega, (len(theta), *self.omega.shape))

    def box(self, low: F64, high: F64) -> F64:
        """Bounds of the parameters."""
        return np.stack([low, high], axis=1)

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters of first guesses."""
        return centers


class DiagonalGaussians:
    """Gaussians with one variance per axis: ``theta = (mean, variances)``."""

    def __init__(self, omega: F64) -> None:
        self.omega = omega
        self.half_square = 0.5 * omega**2
        self.d = omega.shape[0]
        self.size = 2 * self.d

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Characteristic functions of the components."""
        phase = theta[:, : self.d] @ self.omega
        modulus = np.exp(-(theta[:, self.d :] @ self.half_square))
        return modulus * np.cos(phase), modulus * np.sin(phase)

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Gradient on the parameters."""
        mean = (d_im * re - d_re * im) @ self.omega.T
        variance = -(d_re * re + d_im * im) @ self.half_square.T
        return np.concatenate([mean, variance], axis=1)

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives."""
        one = np.concatenate([1j * self.omega, -self.half_square + 0j])
        return np.broadcast_to(one, (len(theta), *one.shape))

    def box(self, low: F64, high: F64) -> F64:
        """Bounds of the parameters."""
        width = high - low
        return np.concatenate(
            [
                np.stack([low, high], axis=1),
                np.stack([1e-8 * width**2, 0.25 * width**2], axis=1),
            ]
        )

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters of first guesses."""
        return np.concatenate([centers, np.broadcast_to(variance, centers.shape)], axis=1)


class SphericalGaussians:
    """Gaussians with one variance for all axes: ``theta = (mean, variance)``."""

    def __init__(self, omega: F64) -> None:
        self.omega = omega
        self.half_square = 0.5 * (omega**2).sum(axis=0)
        self.d = omega.shape[0]
        self.size = self.d + 1

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Characteristic functions of the components."""
        phase = theta[:, : self.d] @ self.omega
        modulus = np.exp(-theta[:, self.d :] * self.half_square)
        return modulus * np.cos(phase), modulus * np.sin(phase)

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Gradient on the parameters."""
        mean = (d_im * re - d_re * im) @ self.omega.T
        variance = -(d_re * re + d_im * im) @ self.half_square
        return np.concatenate([mean, variance[:, None]], axis=1)

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives."""
        one = np.concatenate([1j * self.omega, -self.half_square[None] + 0j])
        return np.broadcast_to(one, (len(theta), *one.shape))

    def box(self, low: F64, high: F64) -> F64:
        """Bounds of the parameters."""
        square = float(np.max((high - low) ** 2))
        return np.concatenate([np.stack([low, high], axis=1), [[1e-8 * square, 0.25 * square]]])

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters of first guesses."""
        one = np.full((len(centers), 1), float(np.mean(variance)))
        return np.concatenate([centers, one], axis=1)


class FullGaussians:
    """Gaussians with any covariance ``L L^T``: ``theta = (mean, lower triangle of L by rows)``."""

    def __init__(self, omega: F64) -> None:
        self.omega = omega
        self.d = omega.shape[0]
        self.rows, self.columns = np.tril_indices(self.d)
        self.size = self.d + len(self.rows)

    def factors(self, theta: F64) -> F64:
        """The Cholesky factors ``(K, d, d)``."""
        factors = np.zeros((len(theta), self.d, self.d))
        factors[:, self.rows, self.columns] = theta[:, self.d :]
        return factors

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Characteristic functions of the components."""
        phase = theta[:, : self.d] @ self.omega
        square = ((self.factors(theta).transpose(0, 2, 1) @ self.omega) ** 2).sum(axis=1)
        modulus = np.exp(-0.5 * square)
        return modulus * np.cos(phase), modulus * np.sin(phase)

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Gradient on the parameters."""
        mean = (d_im * re - d_re * im) @ self.omega.T
        pull = -(d_re * re + d_im * im)
        projected = self.factors(theta).transpose(0, 2, 1) @ self.omega
        factor = np.matmul(self.omega * pull[:, None, :], projected.transpose(0, 2, 1))
        return np.concatenate([mean, factor[:, self.rows, self.columns]], axis=1)

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives."""
        projected = self.factors(theta).transpose(0, 2, 1) @ self.omega
        factor = -self.omega[self.rows] * projected[:, self.columns]
        mean = np.broadcast_to(1j * self.omega, (len(theta), *self.omega.shape))
        return np.concatenate([mean, factor + 0j], axis=1)

    def box(self, low: F64, high: F64) -> F64:
        """Bounds of the parameters."""
        width = high - low
        limit = 0.5 * width[self.rows]
        least = np.where(self.rows == self.columns, 1e-4 * width[self.rows], -limit)
        return np.concatenate([np.stack([low, high], axis=1), np.stack([least, limit], axis=1)])

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters of first guesses."""
        lower = np.diag(np.sqrt(np.broadcast_to(variance, (self.d,))))[self.rows, self.columns]
        return np.concatenate([centers, np.tile(lower, (len(centers), 1))], axis=1)


class StableLaws:
    """Isotropic symmetric alpha-stable laws: ``theta = (location, scale, alpha)``.

    The characteristic function is ``exp(i w.x - (scale |w|)^alpha)`` (Samorodnitsky and Taqqu
    1994, eq. 1.1.6 with zero skewness); ``alpha = 2`` is a Gaussian of variance ``2 scale^2``,
    ``alpha = 1`` a Cauchy law.
    """

    def __init__(self, omega: F64, lowest_alpha: float = 0.3) -> None:
        self.omega = omega
        self.log_radius = np.log(np.maximum(np.sqrt((omega**2).sum(axis=0)), 1e-12))
        self.d = omega.shape[0]
        self.size = self.d + 2
        self.lowest_alpha = lowest_alpha

    def _exponent(self, theta: F64) -> tuple[F64, F64]:
        scaled = np.log(theta[:, self.d : self.d + 1]) + self.log_radius
        return scaled, np.exp(theta[:, self.d + 1 :] * scaled)

    def atoms(self, theta: F64) -> tuple[F64, F64]:
        """Characteristic functions of the components."""
        phase = theta[:, : self.d] @ self.omega
        modulus = np.exp(-self._exponent(theta)[1])
        return modulus * np.cos(phase), modulus * np.sin(phase)

    def gradient(self, theta: F64, re: F64, im: F64, d_re: F64, d_im: F64) -> F64:
        """Gradient on the parameters."""
        mean = (d_im * re - d_re * im) @ self.omega.T
        scaled, power = self._exponent(theta)
        pull = -(d_re * re + d_im * im) * power
        scale = pull.sum(axis=1) * theta[:, self.d + 1] / theta[:, self.d]
        alpha = (pull * scaled).sum(axis=1)
        return np.concatenate([mean, scale[:, None], alpha[:, None]], axis=1)

    def rates(self, theta: F64) -> NDArray[np.complex128]:
        """Logarithmic derivatives."""
        scaled, power = self._exponent(theta)
        scale = -power * theta[:, self.d + 1 :] / theta[:, self.d : self.d + 1]
        extra = np.stack([scale, -power * scaled], axis=1) + 0j
        mean = np.broadcast_to(1j * self.omega, (len(theta), *self.omega.shape))
        return np.concatenate([mean, extra], axis=1)

    def box(self, low: F64, high: F64) -> F64:
        """Bounds of the parameters."""
        width = float(np.max(high - low))
        extra = [[1e-5 * width, width], [self.lowest_alpha, 2.0]]
        return np.concatenate([np.stack([low, high], axis=1), extra])

    def start(self, centers: F64, variance: F64) -> F64:
        """Parameters of first guesses."""
        scale = np.full((len(centers), 1), float(np.sqrt(np.mean(variance) / 2)))
        return np.concatenate([centers, scale, np.full((len(centers), 1), 1.7)], axis=1)
