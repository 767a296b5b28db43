"""k-means from a sketch."""

import warnings
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.decode import solve
from streamsketch.decode.pursuit import Fit
from streamsketch.decode.space import Estimator, Space
from streamsketch.decode.target import Target, as_target
from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.snapshot import Snapshot

LLOYD_POINTS = 20_000
LLOYD_STEPS = 100


class KMeans(Estimator):
    """Cluster centres decoded from a snapshot: no row is looked at again.

    The density of the rows is decoded as a mixture of axis-aligned Gaussians (CL-OMPR, Keriven et
    al. 2018), and the centres are those of k-means on that density: Lloyd's iterations on points
    drawn from it. Point masses (``atoms="dirac"``, compressive k-means, Keriven et al. 2017) are
    biased wherever a cluster is wider than the finest frequency; Gaussians are not.

    Args:
        n_clusters: K; ``"auto"`` or None takes the fewest that explain the sketch.
        n_init: Number of starts; ``"auto"`` stops when a start fits within the sampling error.
        atoms: ``"gaussian"`` or ``"dirac"``.
        random_state: Seed.

    Attributes:
        cluster_centers_: ``(K, d)``, in the data's units when every column is a linear number,
            else in encoded coordinates. `centers_table` has them in the data's units, with the
            columns' names, whatever the schema.
        cluster_weights_: ``(K,)`` share of the rows in each cluster.
        inertia_: Estimated sum of squared distances of the sketched rows to their centres.
        residual_: Squared distance between the sketches, summed over frequencies.
        floor_: What ``residual_`` would be on average for the true density.

    Example:
        >>> import numpy as np
        >>> from streamsketch import Schema, Sketcher
        >>> rng = np.random.default_rng(0)
        >>> rows = rng.choice([-3.0, 3.0], (2000, 1)) + rng.normal(size=(2000, 2)) * 0.2
        >>> s = Sketcher(Schema.vectors(2, -5, 5), frequencies=100, seed=1)
        >>> s.learn_many(rows)
        >>> np.sort(KMeans(2).fit(s.release()).cluster_centers_[:, 0]).round(1).tolist()
        [-3.0, 3.0]
    """

    def __init__(
        self,
        n_clusters: int | None | Literal["auto"] = 8,
        *,
        n_init: int | Literal["auto"] = "auto",
        atoms: Literal["gaussian", "dirac"] = "gaussian",
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.atoms = atoms
        self.random_state = random_state

    def fit(self, snapshot: "Snapshot | Target", y: None = None) -> Self:
        """Decode the centres of a snapshot (or a `Target` of plain arrays).

        Raises:
            ConfigError: An argument is out of range, or the snapshot is of another map.

        Warns:
            UserWarning: Too few frequencies for K (says how many), frequencies of the wrong
                scale, or fewer distinct clusters than K were found.
        """
        clusters = solve.check_components(self.n_clusters, "n_clusters")
        if self.atoms not in ("gaussian", "dirac"):
            raise ConfigError(f"atoms = {self.atoms!r} must be 'gaussian' or 'dirac'")
        starts = None if self.n_init == "auto" else solve.check_components(self.n_init, "n_init")
        target = as_target(snapshot)
        space = Space.of(None if isinstance(snapshot, Target) else snapshot.schema, target.d)
        rng = np.random.default_rng(self.random_state)
        kind = "diag" if self.atoms == "gaussian" else "dirac"
        if clusters is None:
            fit = solve.decode_auto(target, kind, rng, solve.most_components(target, target.d))
        else:
            solve.warn_few(target, clusters, target.d)
            fit = solve.decode(target, kind, clusters, rng, starts)
        solve.warn_poor(target, fit)
        centers = space.out(fit.theta[:, : target.d])
        weights = fit.weights / fit.weights.sum()
        self._space = space
        self.n_features_in_ = target.d
        self.residual_, self.floor_ = fit.cost, target.floor
        self._warn_duplicates(fit, centers, space.scale)
        spread = np.zeros_like(centers)
        if kind == "diag":
            spread = np.sqrt(fit.theta[:, target.d :]) * space.scale
        self.cluster_centers_, self.cluster_weights_, distortion = _lloyd(
            centers, weights, spread, rng
        )
        self.inertia_ = float(distortion * target.count)
        return self

    def _warn_duplicates(self, fit: Fit, centers: F64, width: F64) -> None:
        distinct = solve.merge_duplicates(fit, centers, width)
        if distinct < len(centers):
            warnings.warn(
                f"only {distinct} distinct clusters were found of the {len(centers)} asked for; "
                "the rows may have fewer distinct points than that: ask for fewer clusters",
                UserWarning,
                stacklevel=3,
            )

    def predict(self, data: Any) -> NDArray[np.int64]:
        """The nearest centre ``(n,)`` of rows: an array ``(n, d)`` or an Arrow table."""
        return np.asarray(np.argmin(self.transform(data), axis=1))

    def transform(self, data: Any) -> F64:
        """Distances ``(n, K)`` of rows to the centres."""
        return np.sqrt(_squared_distances(self._space.rows(data), self.cluster_centers_))

    def score(self, data: Any, y: None = None) -> float:
        """Minus the sum of squared distances of rows to their centres."""
        return -float((self.transform(data).min(axis=1) ** 2).sum())

    def centers_table(self) -> "pa.Table":
        """The centres as rows of the stream."""
        return self._space.table(self.cluster_centers_)


def _squared_distances(points: F64, centers: F64) -> F64:
    square = (points**2).sum(axis=1)[:, None] - 2 * points @ centers.T + (centers**2).sum(axis=1)
    return np.asarray(np.maximum(square, 0.0))


def _lloyd(
    centers: F64, weights: F64, spread: F64, rng: np.random.Generator
) -> tuple[F64, F64, float]:
    """Lloyd's iterations on points drawn from the mixture; centres, shares, mean distortion."""
    if not spread.any():
        return centers, weights, float("nan")
    labels = rng.choice(len(weights), LLOYD_POINTS, p=weights)
    points = centers[labels] + spread[labels] * rng.standard_normal(
        (LLOYD_POINTS, spread.shape[1])
    )
    centers = centers.copy()
    before = np.inf
    for _ in range(LLOYD_STEPS):
        square = _squared_distances(points, centers)
        labels = np.argmin(square, axis=1)
        distortion = float(square[np.arange(LLOYD_POINTS), labels].mean())
        count = np.bincount(labels, minlength=len(centers))
        for k in np.flatnonzero(count):
            centers[k] = points[labels == k].mean(axis=0)
        if distortion > before * (1 - 1e-5):
            break
        before = distortion
    return centers, count / LLOYD_POINTS, distortion
