"""Mutants: central lines made wrong, one at a time, and the tests that must fail for each.

`python -m benchmarks.mutants [WORD ...]` tries those whose file or name holds a word (all without).
A mutant that survives, or whose line is no longer there, is reported, and the exit code is 1.

Each runs in a copy of the tree, so that the tree itself is never changed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("streamsketch", "consumers", "testing", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """One wrong line.

    Attributes:
        file: Below `streamsketch/`.
        old: The text that is replaced, which occurs once.
        new: What replaces it.
        test: What pytest is given: files or node ids, below `tests/`.
    """

    file: str
    old: str
    new: str
    test: str


def sampler() -> list[Mutant]:
    """History-aware sampling."""
    herding, energy = "sampler/herding.py", "sampler/energy.py"
    by_herding, by_energy = "sampler/test_herding.py", "sampler/test_energy.py"
    targets, matching = "sampler/targets.py", "sampler/matching.py"
    every = "sampler/test_sampler.py"
    return [
        Mutant(herding, "mass[0] = high[0] / centre[0] ** 2", "mass[0] = high[0] / 2", by_herding),
        Mutant(herding, "mass[0] = high[0] / centre[0] ** 2", "mass[0] = 0.0", by_herding),
        Mutant(herding, "1.0 / low[1:] - 1.0 / high[1:]", "1.0 / low[1:]", by_herding),
        Mutant(herding, "angle * (start * start + radii", "angle * (radii", by_herding),
        Mutant(herding, "pull + share, -np.inf", "pull, -np.inf", by_herding),
        Mutant(herding, "fade.sum() * target - fade @ phi", "fade.sum() * target", by_herding),
        Mutant(herding, "residual * self.forget ** len(phi)", "residual", by_herding),
        Mutant(herding, "near.add(row)", "pass", by_herding),
        Mutant(herding, "/ (2.0 * count * apart)", "/ (count * apart)", by_herding),
        Mutant(energy, "out -= 0.5 * _mean_kernel(target.kernel, x, x)",
               "out -= _mean_kernel(target.kernel, x, x)", by_energy),
        Mutant(energy, "own - 0.5 * target.spread", "own - target.spread", by_energy),
        Mutant(energy, "return (history_size + k) / k, -history_size / k",
               "return 1.0, -history_size / k", by_energy),
        Mutant(energy, "out += on_history * _mean_attraction", "out -= on_history * _mean_attraction",
               by_energy),
        Mutant(targets, "c / d / scale * hyp1f1(0.5", "c / scale * hyp1f1(0.5", "sampler/test_targets.py"),
        Mutant(targets, "float(np.hypot(scale, other))", "float(scale)", "sampler/test_targets.py"),
        Mutant(matching, "since * (refined - self.mean)", "(refined - self.mean)", every),
        Mutant(matching, "kept[rows] = max(0.0, 1.0 - 2 * len(rows) * noise**2 / energy)",
               "kept[rows] = max(0.0, 1.0)", every),
        Mutant(matching, "np.asarray(block / share)", "np.asarray(block)", "sampler/test_generators.py"),
        Mutant("sampler/solve.py", "z *= length / z.norm", "z *= 1.0 / z.norm", every),
        Mutant("sampler/history.py", "part.residuals[key] = residual - others",
               "part.residuals[key] = residual", "sampler/test_history.py"),
        Mutant("sampler/cells.py", "self.weights * (residual - 0.5)", "self.weights * residual",
               "sampler/test_cells.py"),
        Mutant("sampler/cells.py", "len(cells) * target - drawn", "target - drawn",
               "sampler/test_cells.py"),
        Mutant("sampler/cells.py", "1.0 - (b - a) * noise**2 / energy", "1.0", "sampler/test_cells.py"),
        Mutant("sampler/cell_kernels.py", "score[i] -= loss", "pass", "sampler/test_cells.py"),
        Mutant("sampler/cell_kernels.py", "score[i] + (s + 1) * growth[i]", "score[i]",
               "sampler/test_cells.py"),
        Mutant("sampler/unique.py", "np.bitwise_or.at(self.bits", "np.bitwise_xor.at(self.bits",
               "sampler/test_unique.py"),
    ]  # fmt: skip


def training() -> list[Mutant]:
    """Objectives, steps, and the mixture that a generator begins as."""
    objectives, fitting = "generator/objectives.py", "generator/fitting.py"
    by_objectives, by_fitting = "generator/test_objectives.py", "generator/test_fitting.py"
    trainer, mixture = "generator/trainer.py", "generator/mixture.py"
    return [
        Mutant(objectives, "share**2 * weights", "weights", by_objectives),
        Mutant(objectives, "/ (n * (n - 1))", "/ (n * n)", by_objectives),
        Mutant(objectives, "- 0.5 * within", "- within", by_objectives),
        Mutant(objectives, "kyy.mean() - 2 * kxy.mean()", "kyy.mean() - kxy.mean()", by_objectives),
        Mutant(objectives, "-0.5 * (radius / cut) ** 2", "-((radius / cut) ** 2)", by_objectives),
        Mutant(objectives, "square[s] /= s.stop - s.start", "pass", by_objectives),
        Mutant(fitting, "WARM_RATE = 0.5", "WARM_RATE = 1.0", by_fitting),
        Mutant(trainer, "- share**2 * (1 - square) / (n - 1)", "", by_fitting),
        Mutant(trainer, "max(1.0 - done, 0.0)", "1.0", by_fitting),
        Mutant(mixture, "scale[:, at] / (1 - inside**2)", "scale[:, at]", "generator/test_mixture.py"),
        Mutant(mixture, "raw[:, at] = np.arctanh(inside)", "raw[:, at] = inside",
               "generator/test_mixture.py"),
        Mutant("generator/components.py", "ndtri(inner)", "inner", "generator/test_mixture.py"),
        Mutant("generator/heads.py", "drawn + (chances - chances.detach())", "drawn",
               "generator/test_heads.py"),
        Mutant("generator/stein.py", "own = top + eta - (v * kxy).sum(1)", "own = top + eta",
               "generator/test_stein.py"),
        Mutant("generator/stein.py", "axy = axy * (v + 1)", "axy = axy * v", "generator/test_stein.py"),
        Mutant("generator/stein.py", "return -torch.cholesky_solve", "return torch.cholesky_solve",
               "generator/test_stein.py"),
    ]  # fmt: skip


def inverse() -> list[Mutant]:
    """Inverse problems."""
    recover, test = "inverse/recover.py", "inverse/test_recover.py"
    problem, solve = "inverse/problem.py", "inverse/solve.py"
    return [
        Mutant(problem, "norm = (self.lam * z**2).sum(1)", "norm = (0.0 * z**2).sum(1)", test),
        Mutant(problem, "norm + self.penalty(rows)", "norm", test),
        Mutant(problem, "2 * (rate - y + torch.xlogy", "2 * (rate + torch.xlogy", test),
        Mutant(recover, "torch.full((second,), lam_kernel)", "torch.full((second,), lam)", test),
        Mutant(recover, "return lambda z, *labels: center + scale * decode",
               "return lambda z, *labels: center + decode", test),
        Mutant(solve, "int(torch.argmin(total))", "int(torch.argmax(total))", test),
        Mutant(solve, "(moved.abs() - weight / bend).clamp_min(0)", "moved.abs()", test),
        Mutant("inverse/critic.py", "bad.z - good.z", "good.z - bad.z", "inverse/test_critic.py"),
        Mutant("inverse/critic.py", "(rows - center) / scale", "rows", "inverse/test_critic.py"),
    ]  # fmt: skip


def operator() -> list[Mutant]:
    """Frequency laws and what is read off a sketch."""
    laws, chi = "features/frequencies.py", "features/quadratic.py"
    by_laws, by_drift = "features/test_frequencies.py", "drift/test_drift.py"
    return [
        Mutant(laws, "np.sqrt(2 * np.maximum(y - 2, 0))", "np.sqrt(2 * y)", by_laws),
        Mutant(laws, "np.sqrt(-2 * np.log1p", "np.sqrt(-np.log1p", by_laws),
        Mutant("features/frequencies_structured.py", "FAST * min(1.0, float(np.sqrt(8 / d)))", "FAST",
               "features/kernels/test_structured.py"),
        Mutant(chi, "discrete /= (x / 2) * ndtr(x / 2)", "discrete *= (x / 2) * ndtr(x / 2)", by_drift),
        Mutant(chi, "lagged -= cross * (2 - fast - slow)", "pass", by_drift),
        Mutant(chi, "w = np.sign(s) * np.sqrt(max(2 *", "w = np.sqrt(max(2 *", by_drift),
        Mutant("decode/scale.py", "if private and not pilot.release.private:", "if False:",
               "decode/test_scale.py"),
        Mutant("decode/scale.py", "- 2 * target.noise_std**2", "", "decode/test_scale.py"),
        Mutant("features/signature.py", "np.asarray(turned / GAIN)", "np.asarray(turned)",
               "features/test_signature.py"),
        Mutant("features/moments.py", "x = np.clip(x, -1, 1)", "pass", "features/test_moments.py"),
        Mutant("drift/snapshots.py", "covariance *= 1 / old.count + 1 / count",
               "covariance *= 1 / count", by_drift),
        Mutant("drift/snapshots.py", "(old.noise_std * (1 + share)) ** 2", "0.0", by_drift),
        Mutant("drift/snapshots.py", "(1 + share)", "share", by_drift),
        Mutant("drift/snapshots.py", "old.noise_std**2 + new.noise_std**2", "new.noise_std**2", by_drift),
    ]  # fmt: skip


def privacy() -> list[Mutant]:
    """What the promise rests on."""
    release, mechanisms = "privacy/private.py", "privacy/mechanisms.py"
    factors = "privacy/test_factorization.py"
    return [
        Mutant(release, "noise=self.noiser.start(),\n            epoch", "noise=state.noise,\n            epoch",
               "privacy/test_release.py"),
        Mutant(release, "past_variance=state.past_variance + last * last", "past_variance=state.past_variance",
               "privacy/test_release.py"),
        Mutant(mechanisms, "if not sigma <= MOST_SIGMA:", "if False:", factors),
        Mutant("privacy/factorization.py", "times[0] = windows", "times[0] = 1", factors),
        Mutant("privacy/factorization.py", "** -1.39", "** -0.5", factors),
    ]  # fmt: skip


def tables() -> list[Mutant]:
    """The model of tables, and what it makes of noisy counts."""
    room = "generator/autoregressive/"
    law, denoise, tilt = room + "law.py", room + "denoise.py", room + "tilt.py"
    whole, model = "generator/test_table.py::", "generator/test_autoregressive.py"
    noise, private = "generator/test_denoise.py", whole + "test_private_tables"
    consistent = whole + "test_noise_is_taken_out_of_tables"
    ridge = whole + "test_the_ridge_grows_with_the_noise"
    tilted = whole + "test_a_tilt_of_log_three_makes_a_cell_three_times_as_frequent"
    return [
        Mutant(law, "within = (at - edges[code]) / np.maximum(mass[code], 1e-300)", "within = rest",
               whole + "test_values_fill_their_finest_cells"),
        Mutant(denoise, "- left.size * sd**2", "", noise),
        Mutant(denoise, "if excess > by_chance else 0.0", "if excess > 0 else 0.0", noise),
        Mutant(denoise, "np.divide(spread, spread + sd**2", "np.divide(spread, spread", noise),
        Mutant(denoise, "total = total + pair.sum(1) / pair.shape[1]", "total = total + pair.sum(1)", consistent),
        Mutant(denoise, "precision = precision + 1 / pair.shape[1]", "precision = precision + 0.0", consistent),
        Mutant(denoise, "np.where(middle > CERTAIN * sd / np.sqrt(precision), middle, 0.0)",
               "np.maximum(middle, 0.0)", noise),
        Mutant(denoise, "single - (sd if v.finest > v.middle else 0.0)", "single", noise),
        Mutant(denoise, "product + left * kept, 0.0", "product + left * kept, -1.0", consistent),
        Mutant(room + "targets.py", "denoised(layout, cells, noise)", "denoised(layout, cells, 1e-12)", private),
        Mutant(room + "targets.py", "RIDGE * noise * snapshot.count", "0.0", ridge),
        Mutant(room + "fitting.py", "theta = fit_tilt(Psi(layout), targets, codes, begin)",
               "theta = np.zeros(Psi(layout).size)", private),
        Mutant(tilt, "codes[:, chosen], within[:, chosen]", "codes[:, :n], within[:, :n]", tilted),
        Mutant(tilt, "mean - wanted + ridge * theta", "mean - wanted", model),
        Mutant(tilt, "np.where(have > 0, targets.cells[psi.first :], 0.0)", "targets.cells[psi.first :]", model),
        Mutant(tilt, "RIDGE * targets.ridge, LEAST / codes.shape[1]", "1e-12, 0.0", model),
    ]  # fmt: skip


def promises() -> list[Mutant]:
    """Combining, when releases happen, state that is older, and what is said in public."""
    combine, publish, schedule = "privacy/combine.py", "ingest/publish.py", "ingest/schedule.py"
    discretion, files = "ingest/discretion.py", "storage/files.py"
    by_combine, by_time = "privacy/test_combine.py", "ingest/test_timing.py"
    by_words, by_run = "ingest/test_discretion.py", "privacy/test_private_pipeline.py"
    return [
        # the weakest promise holds for what was combined
        Mutant(combine, "if mine != theirs:", "if False:", by_combine),
        Mutant(combine, "kept |= {name: release.notes[name]", "kept |= {name: mine.notes[name]", by_combine),
        Mutant(combine, "users = mine.unit == theirs.unit", "users = mine.unit", by_combine),
        Mutant(combine, "rho=mine.rho + theirs.rho", "rho=mine.rho", by_combine),
        Mutant(combine, 'if noises == {"discrete"}', 'if mine.notes.get("noise") == "discrete"', by_combine),
        Mutant(combine, "if shared and not allow_overlap:", "if False:", by_combine),
        # position, clock and schedule alone decide when a release happens
        Mutant("ingest/parts.py", "sum(p.rows for p in self.parts()) - released",
               "sum(p.rows - p.dead for p in self.parts()) - released", by_time),
        Mutant(publish, "if ended or not releaser.private:", "if True:", by_time),
        Mutant(publish, 'ended = last and saved.get("last")', "ended = False", by_time),
        Mutant(schedule, "if not self.private:", "if True:", by_time),
        Mutant(publish, 'if turns and releaser.private and windows.watermark == "rows":', "if False:",
               "ingest/test_windows.py"),
        # a state that is older than what was published, or a copy
        Mutant(publish, "if newest <= mine:", "if True:", by_time),
        Mutant(publish, "here != state.identity()", "False", by_time),
        Mutant(publish, "copy.check(releaser.ledger)", "pass", by_run),
        Mutant(publish, "if number is None else {**(body or UNRELEASED), \"number\": number}", "", by_time),
        # the public plane
        Mutant(discretion, "_record.begin(details)", "pass", by_words),
        Mutant(discretion, "made.msg, made.args = told(str(made.msg)), ()", "pass", by_words),
        Mutant(discretion, 'f"{told(str(e))} (values', 'f"{e} (values', by_words),
        Mutant("ingest/loop.py", "self.progress.saves += 1",
               "self.progress.saves += any(p.dirty for p in self.parts.values())", by_words),
        Mutant("run/consume.py", "if self.private:", "if False:", by_run),
        Mutant(publish, 'span = {"parts": positions} if releaser.mechanism == "none" else {}',
               'span = {"window": positions}', by_run),
        Mutant(files, "folder.chmod(0o700)", "pass", "storage/test_locks.py"),
    ]  # fmt: skip


ROOMS = (sampler, training, inverse, operator, privacy, promises, tables)
MUTANTS = [mutant for room in ROOMS for mutant in room()]


def run(tests: str, tree: Path) -> subprocess.CompletedProcess[str]:
    """Run tests on the copy until the first fails."""
    paths = [str(tree / "tests" / t) for t in tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    path = f"{tree}{os.pathsep}{tree / 'consumers'}"
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=900
    )


def survives(mutant: Mutant, tree: Path) -> str:
    """Why a mutant is no good, or nothing where a test failed for it as it must."""
    path = tree / "streamsketch" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return f"the line occurs {text.count(mutant.old)} times"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        ran = run(mutant.test, tree)
    finally:
        path.write_text(text)
    if ran.returncode == 1:
        return ""
    return "it survives" if ran.returncode == 0 else ran.stdout[-500:] + ran.stderr[-500:]


def main() -> int:
    """Try the mutants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="parts of a file's name or of the text replaced")
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(w in m.file or w in m.old for w in words)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        for test in sorted({m.test for m in chosen}):
            if run(test, tree).returncode:
                sys.exit(f"{test} fails without any mutant")
        for mutant in chosen:
            why = survives(mutant, tree)
            bad += bool(why)
            print(
                f"{'SURVIVES' if why else 'dies':9}{mutant.file}: {mutant.new}  {why}", flush=True
            )
    print(f"{len(chosen) - bad} of {len(chosen)} die")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
