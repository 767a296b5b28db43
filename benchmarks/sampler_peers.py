"""Other ways to choose N points for a target, for the table of benchmarks/sampler.py.

Each takes a closed-form target, N and a seed and returns (N, 2) points, or None where its package
is not installed. Methods that choose a subset choose it from 64 N independent draws.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from streamsketch.sampler import Herding, MixtureTarget, energy_points
from streamsketch.sampler.herding import energy_map
from streamsketch.sampler.kernels import squared_distances

Points = np.ndarray | None


def iid(target: MixtureTarget, n: int, seed: int) -> Points:
    return target.sample(np.random.default_rng(seed), n)


def joint(target: MixtureTarget, n: int, seed: int) -> Points:
    return energy_points(target, n, seed=seed)


def batches(target: MixtureTarget, n: int, seed: int) -> Points:
    out = np.zeros((0, 2))
    while len(out) < n:
        new = energy_points(target, min(10, n - len(out)), out, seed=1000 * seed + len(out))
        out = np.vstack([out, new])
    return out


def residual(target: MixtureTarget, n: int, seed: int) -> Points:
    fm, weights = energy_map(2, 2048, target.spread)
    selector, z = Herding(fm, weights), target.mean_features(fm.omega)
    rng, residual, out = np.random.default_rng(seed), np.zeros(fm.width), np.zeros((0, 2))
    while len(out) < n:
        x = target.sample(rng, 200)
        choice = selector.choose(residual, z, x, min(8, n - len(out)), out[-256:])
        residual, out = choice.residual, np.vstack([out, x[choice.rows]])
    return out


def herding(target: MixtureTarget, n: int, seed: int) -> Points:
    """Energy herding with the exact potential: greedy, one point at a time, from the pool."""
    pool = target.sample(np.random.default_rng(seed), 64 * n)
    attraction, repulsion, out = target.potential(pool), np.zeros(len(pool)), []
    for k in range(1, n + 1):
        best = int(np.argmin(attraction - repulsion / k))
        out.append(best)
        repulsion += np.sqrt(squared_distances(pool, pool[best : best + 1]))[:, 0]
    return pool[out]


def support_points(target: MixtureTarget, n: int, seed: int) -> Points:
    """Mak and Joseph 2018: convex-concave fixed point, no step length; fresh draws each step."""
    rng = np.random.default_rng(seed)
    x = target.sample(rng, n)
    for _ in range(300):
        z = target.sample(rng, 1000)
        to_z = 1.0 / np.maximum(np.sqrt(squared_distances(x, z)), 1e-9)
        apart = 1.0 / np.maximum(np.sqrt(squared_distances(x, x)), 1e-9)
        np.fill_diagonal(apart, 0.0)
        push = x * apart.sum(axis=1)[:, None] - apart @ x
        x = (to_z @ z + len(z) / n * push) / to_z.sum(axis=1)[:, None]
    return x


def farthest(target: MixtureTarget, n: int, seed: int) -> Points:
    pool = target.sample(np.random.default_rng(seed), 64 * n)
    out, gap = [0], squared_distances(pool, pool[:1])[:, 0]
    while len(out) < n:
        out.append(int(np.argmax(gap)))
        gap = np.minimum(gap, squared_distances(pool, pool[out[-1:]])[:, 0])
    return pool[out]


def k_means(target: MixtureTarget, n: int, seed: int) -> Points:
    from sklearn.cluster import KMeans

    pool = target.sample(np.random.default_rng(seed), 64 * n)
    return KMeans(n, n_init=1, random_state=seed).fit(pool).cluster_centers_


def sobol(target: MixtureTarget, n: int, seed: int) -> Points:
    components = len(target.weights)
    u = qmc.Sobol(2 + (components > 1), rng=np.random.default_rng(seed)).random(256)[:n]
    which = np.minimum((u[:, -1] * components).astype(int), components - 1)
    return target.means[which] + target.scales[which, None] * ndtri(u[:, :2])


def k_dpp(target: MixtureTarget, n: int, seed: int) -> Points:
    """A k-DPP with a Gaussian kernel on a pool of 600 (package dppy)."""
    try:
        from dppy.finite_dpps import FiniteDPP
    except ImportError:
        return None
    pool = target.sample(np.random.default_rng(seed), 600)
    gaps = squared_distances(pool, pool)
    scale = 0.1 * np.median(gaps)
    model = FiniteDPP("likelihood", L=np.exp(-gaps / scale) + 1e-8 * np.eye(len(pool)))
    try:
        rows = model.sample_exact_k_dpp(size=n, random_state=np.random.RandomState(seed))
    except (ValueError, TypeError, AttributeError):  # dppy 0.3 with a newer numpy
        return None
    return pool[list(rows)]


def goodpoints(target: MixtureTarget, n: int, seed: int) -> Points:
    """Kernel thinning of the pool to N points with the energy kernel (package goodpoints)."""
    try:
        from goodpoints import kt
    except ImportError:
        return None
    pool = target.sample(np.random.default_rng(seed), 64 * n)

    def energy(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        norm = np.linalg.norm
        return norm(y, axis=1) + norm(x, axis=1) - norm(y - x, axis=1)

    return pool[np.asarray(kt.thin(pool, 6, energy, energy, seed=seed))]


PEERS: dict[str, Callable[[MixtureTarget, int, int], Points]] = {
    "iid": iid,
    "HAW-C, joint": joint,
    "HAW-C, batches of 10": batches,
    "herding (ours, endless)": residual,
    "support points": support_points,
    "energy herding, exact potential": herding,
    "goodpoints, energy kernel": goodpoints,
    "Sobol": sobol,
    "k-means centres": k_means,
    "k-DPP (dppy)": k_dpp,
    "farthest point": farthest,
}
