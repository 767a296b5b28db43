"""Gaussian mixtures from a sketch."""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from streamsketch.arrays import F64
from streamsketch.decode import solve
from streamsketch.decode.atoms import FullGaussians
from streamsketch.decode.pursuit import Fit
from streamsketch.decode.refine import GaussNewton, resolution, sketch_covariance, whitener
from streamsketch.decode.space import Estimator, Space
from streamsketch.decode.target import Target, as_target
from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.snapshot import Snapshot

KINDS = ("full", "diag", "spherical")
# The covariance of the sketch is (2m, 2m): with more frequencies, the loudest are weighted.
MOST_WEIGHTED = 1500


class GaussianMixture(Estimator):
    """A Gaussian mixture decoded from a snapshot: no row is looked at again.

    Components are found by CL-OMPR (Keriven et al. 2018); then the residual is weighted by the
    inverse covariance of the sketch's sampling error, which makes the estimate efficient given
    the sketch (Hansen 1982). Privacy noise of the release is part of that covariance.

    Args:
        n_components: K; ``"auto"`` or None takes the fewest that explain the sketch.
        covariance_type: ``"full"``, ``"diag"`` or ``"spherical"`` (in encoded coordinates).
        n_init: Number of starts; ``"auto"`` stops when a start fits within the sampling error.
        efficient: Whether to weight the residual; False saves a factorisation of a (2m, 2m)
            matrix.
        random_state: Seed.

    Attributes:
        weights_: ``(K,)``, summing to one.
        means_: ``(K, d)``, in the data's units when every column is a linear number, else in
            encoded coordinates (`sample_table` decodes).
        covariances_: ``(K, d, d)`` for full, ``(K, d)`` otherwise; the same units squared.
        residual_: Squared distance between the sketches, summed over frequencies.
        floor_: What ``residual_`` would be on average for the true density.

    Example:
        >>> import numpy as np
        >>> from streamsketch import Schema, Sketcher
        >>> rng = np.random.default_rng(0)
        >>> rows = rng.choice([-3.0, 3.0], (4000, 1)) + rng.normal(size=(4000, 2)) * 0.5
        >>> s = Sketcher(Schema.vectors(2, -6, 6), frequencies=100, seed=1)
        >>> s.learn_many(rows)
        >>> g = GaussianMixture("auto", covariance_type="diag").fit(s.release())
        >>> len(g.weights_), np.sqrt(g.covariances_).mean().round(1)
        (2, np.float64(0.5))
    """

    def __init__(
        self,
        n_components: int | None | Literal["auto"] = 1,
        *,
        covariance_type: Literal["full", "diag", "spherical"] = "full",
        n_init: int | Literal["auto"] = "auto",
        efficient: bool = True,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.n_init = n_init
        self.efficient = efficient
        self.random_state = random_state

    def fit(self, snapshot: "Snapshot | Target", y: None = None) -> Self:
        """Decode the mixture of a snapshot (or a `Target` of plain arrays).

        Raises:
            ConfigError: An argument is out of range, or the snapshot is of another map.

        Warns:
            UserWarning: Too few frequencies for K (says how many are needed), or frequencies of
                the wrong scale.
        """
        components = solve.check_components(self.n_components, "n_components")
        if self.covariance_type not in KINDS:
            raise ConfigError(
                f"covariance_type = {self.covariance_type!r} must be one of {', '.join(KINDS)}"
            )
        starts = None if self.n_init == "auto" else solve.check_components(self.n_init, "n_init")
        target = as_target(snapshot)
        rng = np.random.default_rng(self.random_state)
        kind = self.covariance_type
        size = solve.ATOMS[kind](target.omega).size
        if components is None:
            fit = solve.decode_auto(target, kind, rng, solve.most_components(target, size))
        else:
            solve.warn_few(target, components, size)
            fit = solve.decode(target, kind, components, rng, starts)
        solve.warn_poor(target, fit)
        means, covariances = gaussians(fit.theta, kind, target.d)
        weights = fit.weights / fit.weights.sum()
        if self.efficient and np.isfinite(target.count):
            weights, means, covariances = weighted_fit(target, kind, fit)
        self._set(
            weights,
            means,
            covariances,
            Space.of(None if isinstance(snapshot, Target) else snapshot.schema, target.d),
        )
        self.residual_, self.floor_ = fit.cost, target.floor
        return self

    def _set(self, weights: F64, means: F64, covariances: F64, space: Space) -> None:
        order = np.argsort(-weights, kind="stable")
        self._space = space
        self.n_features_in_ = means.shape[1]
        self.weights_ = weights[order]
        self.means_ = space.out(means[order])
        full = covariances[order] * space.scale[:, None] * space.scale
        self._factors = np.linalg.cholesky(full)
        self.covariances_ = full
        if self.covariance_type != "full":
            self.covariances_ = np.diagonal(full, axis1=1, axis2=2).copy()

    def _log_parts(self, data: Any) -> F64:
        points = self._space.rows(data)
        parts = np.empty((len(points), len(self.weights_)))
        constant = 0.5 * points.shape[1] * np.log(2 * np.pi)
        for k, factor in enumerate(self._factors):
            white = np.linalg.solve(factor, (points - self.means_[k]).T)
            log_det = np.log(np.diag(factor)).sum()
            parts[:, k] = np.log(self.weights_[k]) - 0.5 * (white**2).sum(0) - log_det - constant
        return parts

    def score_samples(self, data: Any) -> F64:
        """Log-density ``(n,)`` of rows, an array ``(n, d)`` or an Arrow table."""
        result: F64 = logsumexp(self._log_parts(data), axis=1)
        return result

    def score(self, data: Any, y: None = None) -> float:
        """Mean log-density of rows, in nats per row."""
        return float(self.score_samples(data).mean())

    def predict_proba(self, data: Any) -> F64:
        """Probability ``(n, K)`` of each component given the row."""
        parts = self._log_parts(data)
        result: F64 = np.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        return result

    def predict(self, data: Any) -> NDArray[np.int64]:
        """The most probable component ``(n,)`` of rows."""
        return np.asarray(np.argmax(self._log_parts(data), axis=1))

    def sample(self, n_samples: int = 1) -> tuple[F64, NDArray[np.int64]]:
        """Points ``(n, d)`` drawn from the mixture, and their components ``(n,)``."""
        rng = np.random.default_rng(self.random_state)
        labels = rng.choice(len(self.weights_), n_samples, p=self.weights_)
        normal = rng.standard_normal((n_samples, self.n_features_in_))
        points = self.means_[labels] + np.einsum("nij,nj->ni", self._factors[labels], normal)
        return points, labels

    def sample_table(self, n_samples: int = 1) -> "pa.Table":
        """Rows of the stream drawn from the mixture, within the schema's limits."""
        return self._space.table(self.sample(n_samples)[0])


def gaussians(theta: F64, kind: str, d: int) -> tuple[F64, F64]:
    """Means ``(K, d)`` and covariances ``(K, d, d)`` of decoded atoms."""
    if kind == "full":
        factors = FullGaussians(np.zeros((d, 1))).factors(theta)
        return theta[:, :d], factors @ factors.transpose(0, 2, 1)
    variances = np.broadcast_to(theta[:, d:], (len(theta), d))
    return theta[:, :d], variances[:, :, None] * np.eye(d)


def weighted_fit(target: Target, kind: str, fit: Fit) -> tuple[F64, F64, F64]:
    """Weights, means and covariances with the residual weighted by its inverse covariance."""
    target = _loudest(target)
    family = solve.ATOMS[kind](target.omega)
    alpha = fit.weights / fit.weights.sum()
    means, covariances = gaussians(fit.theta, kind, target.d)
    factor = whitener(target, sketch_covariance(target, alpha, means, covariances), fit.cost)
    newton = GaussNewton(target, family, factor)
    theta, alpha = newton.run(fit)
    error = newton.parameter_covariance(theta, alpha)
    alpha = alpha / alpha.sum()
    means, covariances = gaussians(theta, kind, target.d)
    if isinstance(family, FullGaussians):
        covariances = resolution(theta, family, covariances, error)
    return alpha, means, covariances


def _loudest(target: Target) -> Target:
    if target.m <= MOST_WEIGHTED:
        return target
    keep = np.sort(np.argsort(-np.abs(target.z))[:MOST_WEIGHTED])
    return Target(
        target.omega[:, keep],
        target.z[keep],
        target.count,
        target.low,
        target.high,
        target.noise_std,
    )
