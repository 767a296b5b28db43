"""No pair of neighbouring streams moves the encoded windows further than the noise is made for."""

import math

import numpy as np
import pyarrow as pa
import pytest

from streamsketch.features import FeatureMap
from streamsketch.privacy.clipping import UserLimits, user_limits
from streamsketch.privacy.mechanisms import Plan, coefficients, planned
from streamsketch.privacy.noise import seeded_entropy
from streamsketch.privacy.settings import Settings

FM = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, 8)) * 3)
WINDOWS = 10


def encode(plan, windows):
    """Norm of ``C x`` for windows (T, width) in feature units."""
    c = coefficients(plan.encoder, len(windows))
    rows = [sum(c[t - s] * windows[s] for s in range(t + 1)) for t in range(len(windows))]
    return float(np.linalg.norm(rows)) / 65536


def vector(settings, x, classes=1, label=0):
    """What rows add to a window: sums per class and the count coordinate."""
    total = np.zeros(classes * FM.width + 1)
    if len(x):
        total[label * FM.width : (label + 1) * FM.width] = FM.sum(np.asarray(x, np.float32))
    total[-1] = settings.count_units(FM.norm_bound) * len(x)
    return total


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["toeplitz", "blt", "decayed", "tumbling", "sliding"])
def test_one_row_stays_within_the_bound_and_nearly_attains_it(name, strict):
    rng = np.random.default_rng(1)
    for adjacency in ("add_remove", "replace_one"):
        endless = name in ("decayed", "tumbling")
        releases = None if endless else WINDOWS
        given = {"rho": 0.5, "releases": releases, "adjacency": adjacency, "strict": strict}
        plan = planned(name, "landmark", {**given, "decay": 0.7, "panes": 3})[1]
        settings = plan.settings
        claimed = settings.unit_norm(FM.norm_bound) * plan.participation
        worst = 0.0
        for _ in range(200):
            windows = np.zeros((WINDOWS, 2 * FM.width + 1))
            windows[rng.integers(WINDOWS)] += vector(settings, rng.normal(size=(1, 2)), 2, 0)
            if adjacency == "replace_one":
                # The other row may lie in another window and belong to another class.
                there = rng.integers(WINDOWS)
                windows[there] -= vector(settings, rng.normal(size=(1, 2)), 2, rng.integers(2))
            worst = max(worst, encode(plan, windows))
        assert worst <= claimed * (1 + 1e-9)
        if adjacency == "add_remove":
            assert worst >= 0.995 * claimed


@pytest.mark.parametrize(("windows", "separation", "rows"), [(1, 1, 1), (3, 1, 2), (3, 3, 2)])
def test_one_user_stays_within_the_bound(windows, separation, rows):
    settings = Settings(
        rho=0.5, releases=WINDOWS, unit="user", windows=windows, separation=separation, rows=rows
    )
    plan = Plan("toeplitz", settings)
    claimed = settings.unit_norm(FM.norm_bound) * plan.participation

    def sums(limits, stream, users, x):
        found = []
        for window, at in enumerate(stream):
            keep = limits.admit(pa.array(users[at]), window)
            found.append(vector(settings, x[at][keep]))
        return np.array(found)

    rng = np.random.default_rng(2)
    worst = unlimited = 0.0
    for _ in range(150):
        n = 60
        users = rng.integers(0, 3, n)
        # The worst user repeats one row as early and as often as it may.
        x = np.where(users[:, None] == 0, [0.5, -0.5], rng.normal(size=(n, 2)))
        stream = np.array_split(np.sort(rng.permutation(n)), WINDOWS)
        without = [at[users[at] != 0] for at in stream]
        gap = sums(user_limits(settings), stream, users, x) - sums(
            user_limits(settings), without, users, x
        )
        worst = max(worst, encode(plan, gap))
        free = UserLimits(windows=10**6, rows=10**6)
        gap = sums(free, stream, users, x) - sums(
            UserLimits(windows=10**6, rows=10**6), without, users, x
        )
        unlimited = max(unlimited, encode(plan, gap))
    assert worst <= claimed * (1 + 1e-9)
    assert worst >= 0.9 * claimed
    assert unlimited > claimed  # the mutant without limits breaks the promise


def test_strict_releases_lie_on_the_encoded_lattice():
    """Encoding what was decoded gives whole numbers again, whatever the data."""
    plan = Plan("toeplitz", Settings(rho=0.5, releases=8, strict=True))
    noiser = plan.noiser(500, 1000.0)
    entropy = seeded_entropy(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    past, released = noiser.start(), []
    for _ in range(8):
        value, past = noiser.next(past, rng.integers(-(2**20), 2**20, 500), entropy)
        released.append(value)
    c = coefficients(plan.encoder, 8)
    encoded = [sum(c[t - s] * released[s] for s in range(t + 1)) * 2**12 for t in range(8)]
    np.testing.assert_allclose(encoded, np.rint(encoded), atol=1e-3)
    assert math.ceil(1000 * 2**12) == noiser.whole_sigma
