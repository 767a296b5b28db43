"""The compiled kernel against the reference, and the exactness the whole design rests on."""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import ConfigError, DataError
from streamsketch.features import FeatureMap
from streamsketch.features.kernels import ONE, cpu, fused, reference
from streamsketch.features.spec import Spec


def draw(d, m, n, seed=0, spread=5.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, m)) * spread, rng.uniform(-1, 1, (n, d)).astype(np.float32)


def features_of(phases, unit):
    """Cosines and sines of phases in turns, as the kernel computes them."""
    p = fused.polynomials(float(unit))
    cosines, sines = phases.copy(), phases.copy()
    fused.weigh_pairs(cosines, p, np.float32(1), np.float32(0))
    fused.weigh_pairs(sines, p, np.float32(0), np.float32(1))
    return cosines, sines


def test_polynomials_over_every_phase():
    """All float32 phases of [-1/2, 1/2] that the rounding of a turn can leave, 2^25 + 1 of them.

    Below a quarter the phase is finer than this grid of 2^-25, but there the features move by less
    than 2 pi 2^-26 between neighbours of the grid, which the bound includes.
    """
    worst = 0.0
    for start in range(-(1 << 24), 1 << 24, 1 << 21):
        r = (np.arange(start, start + (1 << 21) + 1) / 2**25).astype(np.float32)
        c, s = features_of(r, ONE)
        angle = 2 * np.pi * r.astype(np.float64)
        worst = max(
            worst, np.abs(c - ONE * np.cos(angle)).max(), np.abs(s - ONE * np.sin(angle)).max()
        )
        units = np.trunc(c).astype(np.int64), np.trunc(s).astype(np.int64)
        assert (units[0] ** 2 + units[1] ** 2).max() <= (ONE + 1) ** 2  # FeatureMap.norm_bound
        assert np.abs(units[0]).max() <= ONE and np.abs(units[1]).max() <= ONE
    assert worst / ONE < 7e-7


@fused.njit(error_model="numpy")
def largest_norm(r, p):
    """Largest squared norm, in units, of the truncated pairs of phases r."""
    largest = 0
    for i in range(len(r)):
        c, s = fused.feature_pair(r[i], p)
        a, b = np.int64(np.int32(c)), np.int64(np.int32(s))
        largest = max(largest, a * a + b * b)
    return largest


def test_norm_bound_for_every_phase_there_is():
    """All float32 numbers from 2^-14 to 1/2, none left out: the bound of the privacy mechanisms.

    Negative phases give the same cosine and the opposite sine. Below 2^-14 turns the sine is under
    26 units and the cosine at most 65536.
    """
    p = fused.polynomials(float(ONE))
    first, last = (np.array([v], np.float32).view(np.uint32)[0] for v in (2.0**-14, 0.5))
    for start in range(int(first), int(last) + 1, 1 << 20):
        bits = np.arange(start, min(start + (1 << 20), int(last) + 1), dtype=np.uint32)
        assert largest_norm(bits.view(np.float32), p) <= (ONE + 1) ** 2
    tiny = np.geomspace(1e-45, 2.0**-14, 100_000).astype(np.float32)
    assert largest_norm(tiny, p) <= ONE**2 + 26**2


def test_phase_zero_is_exactly_one():
    for unit in (1.0, ONE, 1 << 21):
        c, s = features_of(np.zeros(3, np.float32), unit)
        assert c.tolist() == [unit] * 3
        assert s.tolist() == [0] * 3


@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 5), (3, 64), (10, 33), (64, 40), (140, 12)])
def test_agrees_with_the_reference(d, m):
    omega, x = draw(d, m, 700)
    got = cpu.prepare(omega)(x)
    want = reference.sum_features(x, omega)
    phase_error = (d + 2) * 2.0**-24 * np.abs(x).astype(float) @ np.abs(omega)
    slack = (ONE * (phase_error + 7e-7)).sum(axis=0)  # and one unit where a truncation tips over
    tipped = 0.1 * len(x) + 3
    assert (np.abs(got - want).reshape(2, m) <= slack + tipped).all()


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(1, 9),
    m=st.integers(1, 9),
    n=st.integers(0, 80),
    cuts=st.lists(st.integers(0, 80), max_size=5),
    layout=st.sampled_from(["C", "F", "strided", "reversed"]),
)
def test_bits_do_not_depend_on_the_split_or_layout(d, m, n, cuts, layout):
    omega, x = draw(d, m, n, seed=n)
    fm = FeatureMap.from_frequencies(omega)
    whole = fm.sum(x, backend="cpu")
    view = {
        "C": x,
        "F": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "reversed": x[::-1].copy()[::-1],
    }[layout]
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    parts = sum(fm.sum(view[a:b], backend="cpu") for a, b in zip(edges, edges[1:], strict=False))
    assert (parts == whole).all()
    order = np.random.default_rng(n).permutation(n)
    assert (fm.sum(x[order], backend="cpu") == whole).all()


def test_bits_do_not_depend_on_threads_or_blocks(monkeypatch):
    omega, x = draw(5, 300, 9001)
    summing = cpu.prepare(omega)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = summing(x)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (summing(x) == one).all()
    monkeypatch.setattr(cpu, "block_rows", lambda *a, **k: 32)
    assert (summing(x) == one).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.int64, ">f4", np.bool_])
def test_other_types_are_taken_as_float32(dtype, monkeypatch):
    monkeypatch.setattr(cpu, "SLAB", 7)
    omega, _ = draw(3, 6, 1)
    x = np.random.default_rng(1).integers(0, 2, (40, 3)).astype(dtype)
    assert (cpu.prepare(omega)(x) == cpu.prepare(omega)(x.astype(np.float32))).all()


def test_read_only_memory_mapped_and_unaligned(tmp_path):
    omega, x = draw(3, 6, 50)
    want = cpu.prepare(omega)(x)
    path = tmp_path / "rows.bin"
    path.write_bytes(b"!" + x.tobytes())
    mapped = np.memmap(path, np.float32, mode="r", offset=1, shape=x.shape)
    assert not mapped.flags.aligned
    assert (cpu.prepare(omega)(mapped) == want).all()
    x.flags.writeable = False
    assert (cpu.prepare(omega)(x) == want).all()


@pytest.mark.parametrize("backend", ["cpu", "reference", "torch"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(bad, backend):
    omega, x = draw(3, 6, 50)
    x = x.astype(np.float64)
    x[17, 1] = bad
    with pytest.raises(DataError, match="not finite"):
        FeatureMap.from_frequencies(omega).sum(x, backend=backend)


def test_norm_bound_holds_for_huge_rows():
    omega, _ = draw(3, 50, 1)
    fm = FeatureMap.from_frequencies(omega)
    for value in (3e38, 1e20, 1e9, 1e-45):
        total = fm.sum(np.full((1, 3), value, np.float32), backend="cpu")
        assert np.linalg.norm(total / ONE) <= fm.norm_bound


@pytest.mark.parametrize("x", [np.array([["a"]]), np.array([[1j]]), np.array([[None]])])
def test_rows_that_are_not_numbers(x):
    with pytest.raises(ConfigError, match="real numbers"):
        FeatureMap.from_frequencies(np.ones((1, 2))).sum(x)


def test_compiling_from_many_threads(monkeypatch):
    cpu.kernel.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(cpu.kernel, ["sum_dense"] * 8))
    assert len(set(map(id, found))) == 1


def test_empty_batch_changes_nothing():
    fm = FeatureMap.from_frequencies(np.ones((3, 2)))
    assert fm.sum(np.zeros((0, 3), np.float32)).tolist() == [0, 0, 0, 0]


def test_frequencies_too_large_for_float32():
    with pytest.raises(ConfigError, match="kernel scale"):
        cpu.prepare(np.full((2, 2), 1e30))


def test_accuracy_of_phases_up_to_a_million_radians():
    """The stated accuracy: (d + 2) 2^-24 of the sum of |omega_k x_k|, here 0.2 radians at most."""
    rng = np.random.default_rng(0)
    for d, reach in ((1, 1e6), (2, 1e4), (3, 1e2)):
        x = rng.uniform(-1, 1, (1, d)).astype(np.float32)
        omega = rng.uniform(-reach, reach, (d, 4000)) / d
        got = cpu.prepare(omega)(x).reshape(2, -1) / ONE
        want = reference.features(x, omega).reshape(2, -1)
        bound = (d + 2) * 2.0**-24 * (np.abs(x) @ np.abs(omega))[0] + 7e-7 + 1 / ONE
        assert (np.abs(got - want) <= bound).all()
        assert bound.max() < 0.2


def test_the_auto_backend_is_the_compiled_one():
    omega, x = draw(4, 10, 30)
    fm = FeatureMap.from_frequencies(omega)
    assert (fm.sum(x) == fm.sum(x, backend="cpu")).all()


def test_a_failing_thread_is_not_lost():
    def work(part, start, stop):
        if part == 1:
            raise MemoryError
        return 0

    with pytest.raises(MemoryError):
        cpu.by_rows(work, 100, 4, 10)


def test_compiling_says_so_once_a_machine(tmp_path):
    """Two processes with an empty cache folder: the first compiles and says so."""
    program = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from streamsketch.features.kernels.cpu import kernel; kernel('sum_dense')"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
        ).stderr
        for _ in range(2)
    ]
    assert "compiling the kernel sum_dense" in said[0] and str(tmp_path) in said[0]
    assert "compil" not in said[1]


def total_of_two_laws():
    rows = np.random.default_rng(1).uniform(-1, 1, (301, 70)).astype(np.float32)
    few = rows * (np.random.default_rng(2).random(rows.shape) < 0.1)  # the kernel of sparse rows
    return [
        FeatureMap.from_spec(Spec("gaussian", x.shape[1], 33)).sum(x).tolist()
        for x in (rows[:, :3], rows, few)
    ]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of one family")
def test_bits_do_not_depend_on_the_instruction_set(tmp_path):
    """The same sums on a processor without long vectors or fused multiply-adds."""
    program = f"import runpy; print(runpy.run_path({__file__!r})['total_of_two_laws']())"
    env = os.environ | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(total_of_two_laws())


def test_without_numba_the_sums_are_the_reference(monkeypatch):
    omega, x = draw(4, 10, 30)
    monkeypatch.setattr("streamsketch.features.kernels.has_numba", lambda: False)
    fm = FeatureMap.from_frequencies(omega)
    assert (fm.sum(x) == reference.sum_features(x, omega)).all()
