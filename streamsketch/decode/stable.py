"""Mixtures of symmetric alpha-stable laws from a sketch."""

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.decode import solve
from streamsketch.decode.space import Estimator, Space
from streamsketch.decode.target import Target, as_target
from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    from streamsketch.snapshot import Snapshot


class StableMixture(Estimator):
    """A mixture of isotropic symmetric alpha-stable laws decoded from a snapshot.

    Stable laws have no density in closed form and, below alpha = 2, no variance; but their
    characteristic functions are simple, and those are what a sketch holds (Keriven et al. 2018,
    section 5.4). Give the schema bounds wide enough that few rows are clipped.

    Args:
        n_components: K.
        n_init: Number of starts; ``"auto"`` stops when a start fits within the sampling error.
        random_state: Seed.

    Attributes:
        weights_: ``(K,)``, summing to one.
        locations_: ``(K, d)`` in the data's units for linear columns of one range.
        scales_: ``(K,)`` in the same units: ``|phi| = exp(-(scale |w|)^alpha)``.
        alphas_: ``(K,)`` in (0.3, 2]; 2 is a Gaussian of variance ``2 scale^2``, 1 a Cauchy law.
        residual_: Squared distance between the sketches, summed over frequencies.
        floor_: What ``residual_`` would be on average for the true law.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> rows = np.random.default_rng(0).standard_cauchy((20_000, 1))
        >>> s = Sketcher(Schema.vectors(1, -500, 500), frequencies=200, scale=0.01)
        >>> s.learn_many(rows)
        >>> model = StableMixture(1).fit(s.release())
        >>> model.alphas_.round(1).tolist(), model.scales_.round(1).tolist()
        ([1.0], [1.0])
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        n_init: int | Literal["auto"] = "auto",
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, snapshot: "Snapshot | Target", y: None = None) -> Self:
        """Decode the mixture of a snapshot (or a `Target` of plain arrays).

        Raises:
            ConfigError: An argument is out of range, the snapshot is of another map, or columns
                of different ranges make "isotropic" mean nothing in the data's units.

        Warns:
            UserWarning: Too few frequencies for K (says how many are needed), or frequencies of
                the wrong scale.
        """
        components = solve.check_components(self.n_components, "n_components")
        if components is None:
            raise ConfigError("n_components of a stable mixture must be a whole number")
        starts = None if self.n_init == "auto" else solve.check_components(self.n_init, "n_init")
        target = as_target(snapshot)
        space = Space.of(None if isinstance(snapshot, Target) else snapshot.schema, target.d)
        if np.ptp(space.scale) > 1e-9 * space.scale.max():
            raise ConfigError(
                "the columns have different ranges, so an isotropic law has no one scale; give "
                "the columns equal ranges"
            )
        solve.warn_few(target, components, target.d + 2)
        rng = np.random.default_rng(self.random_state)
        fit = solve.decode(target, "stable", components, rng, starts)
        solve.warn_poor(target, fit)
        order = np.argsort(-fit.weights)
        theta, d = fit.theta[order], target.d
        self.weights_ = fit.weights[order] / fit.weights.sum()
        self.locations_ = space.out(theta[:, :d])
        self.scales_ = theta[:, d] * space.scale[0]
        self.alphas_ = theta[:, d + 1]
        self.residual_, self.floor_ = fit.cost, target.floor
        self.n_features_in_ = d
        return self

    def sample(self, n_samples: int = 1) -> tuple[F64, NDArray[np.int64]]:
        """Points ``(n, d)`` drawn from the mixture, and their components ``(n,)``.

        An isotropic stable law is a Gaussian with a random positive-stable variance (Samorodnitsky
        and Taqqu 1994, proposition 2.5.2), drawn by Kanter's formula.
        """
        rng = np.random.default_rng(self.random_state)
        labels = rng.choice(len(self.weights_), n_samples, p=self.weights_)
        half = self.alphas_[labels] / 2
        angle, wait = rng.uniform(0, np.pi, n_samples), rng.exponential(size=n_samples)
        with np.errstate(divide="ignore", invalid="ignore"):
            subordinator = (
                np.sin(half * angle)
                / np.sin(angle) ** (1 / half)
                * (np.sin((1 - half) * angle) / wait) ** ((1 - half) / half)
            )
        subordinator = np.where(half > 0.9999, 1.0, subordinator)
        spread = self.scales_[labels] * np.sqrt(2 * subordinator)
        normal = rng.standard_normal((n_samples, self.n_features_in_))
        return self.locations_[labels] + spread[:, None] * normal, labels
