"""Orthogonal matching pursuit with replacement over a continuous family of atoms (CL-OMPR).

Given the sketch ``z`` of unknown rows, find weights and atoms that minimise

    sum_j  w_j | z_j - sum_k alpha_k a_j(theta_k) |^2,     alpha >= 0, theta_k in its box.

Keriven, Bourrier, Gribonval, Perez, "Sketching for large-scale learning of mixture models", 2018,
algorithm 2, with three changes that make one run as reliable as many: atoms are proposed near the
mass of the data (a Gaussian fitted to the sketch) and not over the whole box, hundreds of
proposals are scored at once before any is descended from, and the descents are scaled by the
diagonal of the Gauss-Newton matrix.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls

from streamsketch.arrays import F64
from streamsketch.decode.atoms import Atoms, curvature
from streamsketch.decode.target import Target

PROPOSALS = 160
DESCENTS = 3
INNER_STEPS = 40
FINAL_STEPS = 1500


@dataclass(frozen=True)
class Fit:
    """A decoded mixture: atoms ``theta`` ``(K, size)``, ``weights`` ``(K,)``, the cost."""

    theta: F64
    weights: F64
    cost: float


@dataclass(frozen=True)
class Prior:
    """Where atoms are looked for: centre ``(d,)``, variance ``(d,)`` and width of an atom."""

    center: F64
    variance: F64
    atom_variance: F64


class Pursuit:
    """One target, one family, one weighting of the frequencies; ``run`` is one attempt."""

    def __init__(
        self, target: Target, family: Atoms, prior: Prior, frequency_weights: F64 | None = None
    ) -> None:
        self.target = target
        self.family = family
        self.prior = prior
        self.w = np.ones(target.m) if frequency_weights is None else frequency_weights
        self.root_w = np.sqrt(self.w)
        self.re, self.im = target.z.real.copy(), target.z.imag.copy()
        self.box = family.box(target.low, target.high)

    def run(self, components: int, rng: np.random.Generator) -> Fit:
        """K atoms by K additions and K replacements; the best of the K fits, not yet polished."""
        theta = np.empty((0, self.family.size))
        alpha = np.empty(0)
        best: Fit | None = None
        rounds = 2 * components if components > 1 else 1
        for turn in range(rounds):
            theta = np.concatenate([theta, self._new_atom(theta, alpha, rng)[None]])
            if len(theta) > components:
                theta, changed = self._drop_least(theta)
                if not changed:
                    continue
            fit = self._descend(theta, self._project(theta), INNER_STEPS)
            theta, alpha = fit.theta, fit.weights
            if turn >= components - 1 and (best is None or fit.cost < best.cost):
                best = fit
        assert best is not None
        return best

    def grow(self, most: int, enough: float, rng: np.random.Generator) -> Fit:
        """Atoms added until the cost is ``enough`` or there are ``most``: quicker than `run`.

        Nothing is replaced, and all atoms descend together only when their number has grown by a
        quarter.

        Args:
            most: Largest number of atoms.
            enough: Cost at which to stop.
            rng: Draws the proposals.
        """
        fit = Fit(np.empty((0, self.family.size)), np.empty(0), np.inf)
        settled = 0
        while len(fit.theta) < most and fit.cost > enough:
            new = self._new_atom(fit.theta, fit.weights, rng)
            theta = np.concatenate([fit.theta, new[None]])
            alpha = self._project(theta)
            fit = Fit(theta, alpha, self.cost(theta, alpha))
            if len(theta) >= 1.25 * settled or len(theta) == most:
                settled = len(theta)
                fit = self._descend(theta, alpha, INNER_STEPS)
        fit = self._descend(fit.theta, fit.weights, 3 * INNER_STEPS)
        keep = fit.weights > 1e-4 * fit.weights.sum()
        return Fit(fit.theta[keep], fit.weights[keep], fit.cost)

    def descend(self, fit: Fit) -> Fit:
        """The local minimum next to ``fit``, by a long descent that stores no matrix."""
        return self._descend(fit.theta, fit.weights, FINAL_STEPS, final=True)

    def cost(self, theta: F64, alpha: F64) -> float:
        """The weighted squared distance between the sketch and that of the mixture."""
        re, im = self.family.atoms(theta)
        return float(self.w @ ((self.re - alpha @ re) ** 2 + (self.im - alpha @ im) ** 2))

    def _proposals(self, rng: np.random.Generator) -> F64:
        prior, target = self.prior, self.target
        near = rng.normal(prior.center, 1.3 * np.sqrt(prior.variance), (PROPOSALS, target.d))
        anywhere = rng.uniform(target.low, target.high, (PROPOSALS // 8, target.d))
        centers = np.clip(np.concatenate([near, anywhere]), target.low, target.high)
        return self.family.start(centers, prior.atom_variance)

    def _new_atom(self, theta: F64, alpha: F64, rng: np.random.Generator) -> F64:
        """The atom most correlated with what is left of the sketch (step 1)."""
        left_re, left_im = self.re.copy(), self.im.copy()
        if len(theta):
            re, im = self.family.atoms(theta)
            left_re -= alpha @ re
            left_im -= alpha @ im
        left_re *= self.w
        left_im *= self.w
        starts = np.clip(self._proposals(rng), self.box[:, 0], self.box[:, 1])
        re, im = self.family.atoms(starts)
        norm = np.sqrt((re**2 + im**2) @ self.w)
        score = (re @ left_re + im @ left_im) / norm
        order = np.argsort(-score)[:DESCENTS]

        found = [self._ascend(starts[i], left_re, left_im) for i in order]
        return min(found, key=lambda pair: pair[0])[1]

    def _ascend(self, start: F64, left_re: F64, left_im: F64) -> tuple[float, F64]:
        family, w = self.family, self.w
        re, im = family.atoms(start[None])
        scale = 1 / np.sqrt(curvature(family, start[None], w)[0] + 1e-12)
        scale *= np.sqrt(float(w @ (re[0] ** 2 + im[0] ** 2)))

        def objective(scaled: F64) -> tuple[float, F64]:
            theta = (scaled * scale)[None]
            re, im = family.atoms(theta)
            norm = np.sqrt(float((re[0] ** 2 + im[0] ** 2) @ w)) + 1e-300
            value = float(re[0] @ left_re + im[0] @ left_im) / norm
            d_re = left_re / norm - value / norm**2 * w * re[0]
            d_im = left_im / norm - value / norm**2 * w * im[0]
            gradient = family.gradient(theta, re, im, d_re[None], d_im[None])[0]
            return -value / size, -gradient * scale / size

        size = np.sqrt(float(w @ (self.re**2 + self.im**2))) + 1e-300
        bounds = self.box / scale[:, None]
        done = minimize(
            objective,
            start / scale,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": INNER_STEPS, "ftol": 1e-7, "maxcor": 8},
        )
        return float(done.fun), np.clip(done.x * scale, self.box[:, 0], self.box[:, 1])

    def _stack(self, theta: F64) -> F64:
        re, im = self.family.atoms(theta)
        stacked: F64 = np.concatenate([re * self.root_w, im * self.root_w], axis=1).T
        return stacked

    def _project(self, theta: F64) -> F64:
        """Nonnegative least-squares weights of given atoms."""
        target = np.concatenate([self.re * self.root_w, self.im * self.root_w])
        weights: NDArray[np.float64] = nnls(self._stack(theta), target)[0]
        return weights

    def _drop_least(self, theta: F64) -> tuple[F64, bool]:
        """Remove the atom of least weight; ``False`` when it is the one just added."""
        atoms = self._stack(theta)
        norms = np.sqrt((atoms**2).sum(axis=0))
        least = int(np.argmin(self._project(theta) * norms))
        return np.delete(theta, least, axis=0), least != len(theta) - 1

    def _descend(self, theta: F64, alpha: F64, steps: int, final: bool = False) -> Fit:
        """Joint descent on atoms and weights (step 5)."""
        family, w, shape = self.family, self.w, theta.shape
        alpha = np.maximum(alpha, 1e-3 / len(theta))
        re, im = family.atoms(theta)
        bend = (alpha**2)[:, None] * curvature(family, theta, w)
        scale_theta = 1 / np.sqrt(bend + 1e-6 * bend.max())
        scale_alpha = 1 / np.sqrt((re**2 + im**2) @ w + 1e-12)
        scale = np.concatenate([scale_theta.ravel(), scale_alpha])
        total = float(w @ (self.re**2 + self.im**2)) + 1e-300

        def objective(scaled: F64) -> tuple[float, F64]:
            x = scaled * scale
            theta, alpha = x[: -shape[0]].reshape(shape), x[-shape[0] :]
            re, im = family.atoms(theta)
            left_re, left_im = self.re - alpha @ re, self.im - alpha @ im
            w_re, w_im = w * left_re, w * left_im
            value = float(w_re @ left_re + w_im @ left_im)
            d_alpha = -2 * (re @ w_re + im @ w_im)
            d_theta = family.gradient(
                theta, re, im, -2 * alpha[:, None] * w_re, -2 * alpha[:, None] * w_im
            )
            gradient = np.concatenate([d_theta.ravel(), d_alpha])
            return value / total, gradient * scale / total

        box = np.concatenate(
            [np.tile(self.box, (shape[0], 1)), np.tile([[1e-9, 2.0]], (shape[0], 1))]
        )
        done = minimize(
            objective,
            np.concatenate([theta.ravel(), alpha]) / scale,
            jac=True,
            method="L-BFGS-B",
            bounds=box / scale[:, None],
            options={
                "maxiter": steps,
                "maxfun": 2 * steps,
                "maxcor": 20,
                "ftol": 1e-12 if final else 1e-6,
                "gtol": 1e-10,
            },
        )
        x = np.clip(done.x * scale, box[:, 0], box[:, 1])
        theta, alpha = x[: -shape[0]].reshape(shape), x[-shape[0] :]
        return Fit(theta, alpha, self.cost(theta, alpha))
