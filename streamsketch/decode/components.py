"""Principal and independent components from a sketch."""

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streamsketch.arrays import F64
from streamsketch.decode.space import Estimator, Space, positive_count
from streamsketch.errors import ConfigError
from streamsketch.features.moments import MomentMap

if TYPE_CHECKING:
    from streamsketch.snapshot import Snapshot

SWEEPS = 100


class PCA(Estimator):
    """Principal components decoded from a snapshot.

    With ``Sketcher(schema, map="quadratic")`` mean and covariance are in the sketch itself. From a
    Fourier snapshot they are those of a Gaussian mixture decoded from it.

    Args:
        n_components: How many; None keeps all.
        random_state: Seed of the decoding of a Fourier snapshot.

    Attributes:
        components_: ``(k, d)`` orthonormal directions, in the data's units when every column is a
            linear number, else in encoded coordinates.
        explained_variance_: ``(k,)`` variances along them, largest first.
        explained_variance_ratio_: ``(k,)`` shares of the total variance.
        mean_: ``(d,)``.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> rows = np.random.default_rng(0).normal(size=(5000, 1)) * [[1.0, 1.0]]
        >>> s = Sketcher(Schema.vectors(2, -5, 5), map="quadratic")
        >>> s.learn_many(rows)
        >>> pca = PCA(1).fit(s.release())
        >>> np.abs(pca.components_).round(2).tolist(), pca.explained_variance_.round(1).tolist()
        ([[0.71, 0.71]], [2.0])
    """

    def __init__(self, n_components: int | None = None, *, random_state: int = 0) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, snapshot: "Snapshot", y: None = None) -> Self:
        """Decode the components.

        Raises:
            ConfigError: ``n_components`` is out of range, or the map is of another kind.
        """
        d = snapshot.spec.d
        kept = (
            d if self.n_components is None else positive_count("n_components", self.n_components)
        )
        if kept > d:
            raise ConfigError(f"n_components = {kept} is more than the {d} encoded coordinates")
        self._space = Space.of(snapshot.schema, d)
        mean, covariance = _second_moments(snapshot, self.random_state)
        scale = self._space.scale
        values, vectors = np.linalg.eigh(covariance * scale[:, None] * scale)
        order = np.argsort(-values)[:kept]
        self.mean_ = self._space.out(mean[None])[0]
        self.components_ = vectors[:, order].T
        # noise of a private release may push a small variance below zero
        self.explained_variance_ = np.maximum(values[order], 0.0)
        total = max(float(np.maximum(values, 0.0).sum()), 1e-300)
        self.explained_variance_ratio_ = self.explained_variance_ / total
        self.n_features_in_ = d
        return self

    def transform(self, data: Any) -> F64:
        """Coordinates ``(n, k)`` of rows along the components."""
        return np.asarray((self._space.rows(data) - self.mean_) @ self.components_.T)

    def inverse_transform(self, coordinates: F64) -> F64:
        """Rows ``(n, d)`` of coordinates ``(n, k)``."""
        return np.asarray(coordinates @ self.components_ + self.mean_)


class ICA(Estimator):
    """Independent components from a fourth-order sketch of few columns.

    Sketch with ``Sketcher(schema, map="quartic")``. The fourth-order cumulants of the whitened
    stream are diagonalised jointly by plane rotations (JADE: Cardoso and Souloumiac 1993); at most
    one component may be Gaussian.

    Args:
        max_sweeps: Most rounds of rotations.

    Attributes:
        components_: ``(d, d)`` unmixing matrix; ``transform`` gives sources of unit variance.
        mixing_: ``(d, d)`` its inverse, in the data's units for linear columns.
        mean_: ``(d,)``.
        kurtosis_: ``(d,)`` excess kurtosis of the sources, largest magnitude first.
    """

    def __init__(self, *, max_sweeps: int = SWEEPS) -> None:
        self.max_sweeps = max_sweeps

    def fit(self, snapshot: "Snapshot", y: None = None) -> Self:
        """Decode the components.

        Raises:
            ConfigError: The snapshot was not made by the ``quartic`` map, or a column is constant
                or a combination of others (nothing can be unmixed then).

        Warns:
            UserWarning: The stream fills so little of its limits in some direction that rounding
                or privacy noise drowns its fourth moments.
        """
        moments = snapshot.features
        if not isinstance(moments, MomentMap) or moments.degree < 4:
            raise ConfigError(
                f"this snapshot was made by the {snapshot.spec.map!r} map; independent components "
                "need a sketch with map = 'quartic'"
            )
        first, second, third, fourth = moments.tensors(_mean(snapshot))
        covariance = second - np.outer(first, first)
        values, vectors = np.linalg.eigh(covariance)
        if values[0] < 1e-6 * values[-1]:
            raise ConfigError(
                "a column is constant or a combination of others (covariance eigenvalues from "
                f"{values[0]:.2g} to {values[-1]:.2g}); ignore one in the schema"
            )
        _warn_coarse(snapshot, float(values[0]))
        whiten = (vectors / np.sqrt(values)).T
        cumulants = _cumulants(first, second, third, fourth, covariance)
        for _ in range(4):  # one index after the other
            cumulants = np.tensordot(cumulants, whiten, axes=(0, 1))
        rotation = _joint_diagonalise(cumulants, self.max_sweeps)
        kurtosis = np.einsum("ijkl,ia,ja,ka,la->a", cumulants, *[rotation] * 4, optimize=True)
        order = np.argsort(-np.abs(kurtosis))
        self._space = Space.of(snapshot.schema, snapshot.spec.d)
        unmix = (rotation.T @ whiten)[order]
        self.kurtosis_ = kurtosis[order]
        self.components_ = unmix / self._space.scale
        self.mixing_ = np.linalg.inv(self.components_)
        self.mean_ = self._space.out(first[None])[0]
        self.n_features_in_ = snapshot.spec.d
        return self

    def transform(self, data: Any) -> F64:
        """Sources ``(n, d)`` of rows."""
        return np.asarray((self._space.rows(data) - self.mean_) @ self.components_.T)

    def inverse_transform(self, sources: F64) -> F64:
        """Rows ``(n, d)`` of sources."""
        return np.asarray(sources @ self.mixing_.T + self.mean_)


def _mean(snapshot: "Snapshot") -> F64:
    """Mean features over all label classes."""
    return np.asarray(snapshot.mean.reshape(snapshot.spec.classes, -1).sum(axis=0))


def _second_moments(snapshot: "Snapshot", seed: int) -> tuple[F64, F64]:
    """Mean ``(d,)`` and covariance ``(d, d)`` in encoded coordinates."""
    if isinstance(snapshot.features, MomentMap):
        first, second = snapshot.features.tensors(_mean(snapshot))[:2]
        return first, second - np.outer(first, first)
    from streamsketch.decode.mixture import GaussianMixture
    from streamsketch.decode.target import as_target

    with warnings.catch_warnings():  # a rough mixture has good second moments
        warnings.simplefilter("ignore", UserWarning)
        model = GaussianMixture("auto", random_state=seed).fit(as_target(snapshot))
    mean = model.weights_ @ model.means_
    away = model.means_ - mean
    within = np.einsum("k,kij->ij", model.weights_, model.covariances_)
    return mean, within + np.einsum("k,ki,kj->ij", model.weights_, away, away)


def _warn_coarse(snapshot: "Snapshot", least: float) -> None:
    """Warn when whitening blows the errors of fourth moments up to the size of cumulants."""
    rounding = 2.0**-16 / np.sqrt(12 * snapshot.count)
    error = np.hypot(rounding, snapshot.release.noise_std / snapshot.count) / least**2
    if error > 0.1:
        warnings.warn(
            f"the narrowest direction of the stream has a deviation of {np.sqrt(least):.2g} of its "
            f"limits, so its cumulants are known to {error:.1g} only: declare tighter limits",
            UserWarning,
            stacklevel=3,
        )


def _cumulants(first: F64, second: F64, third: F64, fourth: F64, covariance: F64) -> F64:
    """Fourth-order cumulants ``(d, d, d, d)`` from raw moments."""
    a, b, c = "ijkl", first, covariance
    central = fourth.copy()
    for one, rest in (("i", "jkl"), ("j", "ikl"), ("k", "ijl"), ("l", "ijk")):
        central -= np.einsum(f"{one},{rest}->{a}", b, third)
    for pair, rest in (
        ("ij", "kl"),
        ("ik", "jl"),
        ("il", "jk"),
        ("jk", "il"),
        ("jl", "ik"),
        ("kl", "ij"),
    ):
        central += np.einsum(f"{pair[0]},{pair[1]},{rest}->{a}", b, b, second)
    central -= 3 * np.einsum("i,j,k,l->ijkl", b, b, b, b)
    for pair, rest in (("ij", "kl"), ("ik", "jl"), ("il", "jk")):
        central -= np.einsum(f"{pair},{rest}->{a}", c, c)
    return central


def _joint_diagonalise(cumulants: F64, sweeps: int) -> F64:
    """The rotation that makes all slices ``Q_kl = cum[:, :, k, l]`` as diagonal as possible.

    Each plane's best angle is in closed form (Cardoso and Souloumiac 1996).
    """
    d = len(cumulants)
    slices = cumulants.reshape(d, d, d * d).transpose(2, 0, 1).copy()
    rotation = np.eye(d)
    for _ in range(sweeps):
        turned = 0.0
        for p in range(d - 1):
            for q in range(p + 1, d):
                gap = slices[:, p, p] - slices[:, q, q]
                off = slices[:, p, q] + slices[:, q, p]
                on, cross = gap @ gap - off @ off, 2 * gap @ off
                angle = 0.5 * np.arctan2(cross, on + np.hypot(on, cross))
                if abs(angle) < 1e-9:
                    continue
                turned = max(turned, float(abs(angle)))
                plane = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                slices[:, [p, q], :] = plane.T @ slices[:, [p, q], :]
                slices[:, :, [p, q]] = slices[:, :, [p, q]] @ plane
                rotation[:, [p, q]] = rotation[:, [p, q]] @ plane
        if turned < 1e-8:
            break
    return rotation
