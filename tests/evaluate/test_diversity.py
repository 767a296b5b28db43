import numpy as np
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate.diversity import (
    VendiSketch,
    coverage,
    duplicate_rate,
    energy_gain,
    median_scale,
    nearest_distances,
    sketch_gain,
    vendi,
)
from streamsketch.features import FeatureMap
from streamsketch.sampler import GaussianTarget, energy_frequencies, energy_points

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((3000, 2))


def test_gain_is_one_for_independent_points_and_large_for_chosen_ones():
    gains = [1 / energy_gain(RNG.standard_normal((50, 2)), NORMAL) for _ in range(40)]
    assert 0.8 < np.mean(gains) < 1.25
    chosen = energy_points(GaussianTarget(2), 50, seed=0, steps=200)
    assert energy_gain(chosen, NORMAL) > 5.0
    assert energy_gain(NORMAL, NORMAL) == np.inf


def test_gain_from_sketches_agrees_with_points():
    omega, v = energy_frequencies(2, 2048, GaussianTarget(2).spread)
    fm = FeatureMap.from_frequencies(omega)
    x = NORMAL[:40] * 1.2
    z = fm.features(NORMAL).mean(axis=0)
    from_sketch = sketch_gain(fm.features(x).mean(axis=0), z, v, 40)
    assert from_sketch == pytest.approx(energy_gain(x, NORMAL), rel=0.15)
    with pytest.raises(ConfigError):
        sketch_gain(z, z[:-1], v, 40)
    with pytest.raises(ConfigError):
        sketch_gain(z, z, v, 0)


def test_vendi_counts_distinct_points():
    places = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    repeated = places[[0, 1, 2, 0, 1, 2]]
    assert vendi(repeated, scale=1.0) == pytest.approx(3.0)
    uneven = places[[0, 0, 0, 0, 1, 2]]
    p = np.array([4, 1, 1]) / 6
    assert vendi(uneven, scale=1.0) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert vendi(np.zeros((5, 2))) == pytest.approx(1.0)


def test_streamed_vendi_tends_to_the_exact_one_from_below_and_merges():
    x = NORMAL[:200]
    exact = vendi(x, scale=0.7)
    scores = []
    for frequencies in (16, 400):
        sketch = VendiSketch(2, 0.7, frequencies)
        for part in np.array_split(x, 3):
            sketch.update(part)
        scores.append(sketch.score())
    assert scores[0] < scores[1]
    assert scores[1] == pytest.approx(exact, rel=0.05)
    a, b = VendiSketch(2, 0.7, 16), VendiSketch(2, 0.7, 16)
    a.update(x[:50])
    b.update(x[50:])
    assert a.merge(b).score() == pytest.approx(scores[0])
    with pytest.raises(ConfigError):
        a.merge(VendiSketch(2, 0.7, 16, seed=1))
    with pytest.raises(DataError):
        VendiSketch(2, 0.7).score()


def slow_coverage(x, z, k):
    """The definitions, by loops."""

    def distance(a, b):
        return float(np.linalg.norm(a - b))

    def reach(points, i):
        return sorted(distance(points[i], p) for p in points)[k]

    rx = [reach(x, i) for i in range(len(x))]
    rz = [reach(z, i) for i in range(len(z))]
    counts = [sum(distance(p, q) <= r for q, r in zip(z, rz, strict=True)) for p in x]
    recall = [any(distance(p, q) <= r for p, r in zip(x, rx, strict=True)) for q in z]
    covered = [min(distance(p, q) for p in x) <= r for q, r in zip(z, rz, strict=True)]
    return np.mean([c > 0 for c in counts]), np.mean(recall), np.mean(counts) / k, np.mean(covered)


def test_coverage_is_its_definition():
    x, z = RNG.standard_normal((40, 3)) + 0.8, RNG.standard_normal((50, 3))
    found = coverage(x, z, k=3)
    slow = slow_coverage(x, z, 3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(slow)


def test_coverage_tells_collapse_from_scatter():
    z = NORMAL[:300]
    collapsed = coverage(np.zeros((60, 2)) + RNG.normal(0, 0.01, (60, 2)), z)
    scattered = coverage(RNG.standard_normal((60, 2)) * 10.0, z)
    assert collapsed.precision == 1.0
    assert collapsed.recall < 0.1
    assert collapsed.coverage < 0.1
    assert scattered.precision < 0.5


def test_nearest_distances_in_blocks_equal_the_plain_ones():
    x = np.random.default_rng(3).standard_normal((1500, 2))
    gaps = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert np.allclose(nearest_distances(x), gaps.min(axis=1), atol=1e-7)
    assert nearest_distances(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


def test_duplicates_of_rows_and_of_arrays():
    assert duplicate_rate(np.array([[1.0], [2.0], [1.0], [1.0]])) == 0.5
    assert duplicate_rate([]) == 0.0


def test_median_scale_of_coincident_points_is_harmless():
    assert median_scale(np.zeros((4, 2))) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: vendi(np.zeros((0, 2))),
        lambda: vendi(np.array([[np.nan]])),
        lambda: vendi(np.zeros((2, 1)), scale=0.0),
        lambda: coverage(np.zeros((3, 1)), np.zeros((30, 1))),
        lambda: coverage(np.zeros((30, 1)), np.zeros((30, 2))),
        lambda: nearest_distances(np.zeros((1, 2))),
        lambda: energy_gain(np.zeros(3), np.zeros((3, 1))),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(DataError):
        call()
