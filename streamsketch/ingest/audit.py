"""An audit of releases from outside: is the noise there, and is it the noise that was promised?

The audit runs a releaser many times on one stream, with and without a canary row in the first
window, and looks at published snapshots only. From the published settings it knows what the
noise has to be; it undoes the correlation between releases (multiplies by ``C A**-1``) and asks:

* *mu*: how well does the best test tell the two streams apart? For Gaussian noise that is one
  number (Gaussian differential privacy), estimated from the shift of a whitened score, and it
  must not exceed ``sqrt(2 rho)`` by more than 4.9 standard errors (false alarms: 5 in 10**7).
* *noise*: without the canary the whitened releases must be independent with the promised variance.
* *lattice*: default releases are whole multiples of 2**-16, whatever the noise.

Every release goes the way that `consume` goes (`ingest.publish`): saved ahead, published, taken up again
after a crash; only the files are in memory.

Two releases with one index are an attacker's gift: the audit takes part in every crash and
keeps all versions it was shown. A plain lower bound on epsilon would miss half of the mistakes
that these three tests find (see docs/privacy.md).
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import BudgetError, PrivacyError
from streamsketch.features import Map
from streamsketch.ingest.publish import Schedule, release_now
from streamsketch.privacy import factorization as fx
from streamsketch.privacy.mechanisms import coefficients
from streamsketch.privacy.release import Releaser
from streamsketch.sketch import Sketch
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import Arrays, pack, unpack
from streamsketch.storage.store import Store

__all__ = ["Cut", "Verdict", "audit"]

#: Standard errors by which the measured mu may exceed the promised one.
MARGIN = 4.9
#: Largest z value of the variance, and of the largest of all correlations.
NOISE_LIMIT = 6.0

KEEP_ALL = Schedule(keep=None)

Cut = tuple[NDArray[np.int64], int]
#: Runs one stream, given what makes its releaser and its cuts; returns what was published, in order.
Drive = Callable[[Callable[[], Releaser], Sequence[Cut]], Sequence[Snapshot]]


@dataclass(frozen=True)
class Verdict:
    """What the audit found.

    Attributes:
        mu: Measured distinguishability of the canary, with its standard error `mu_error`.
        promised: ``sqrt(2 rho)``.
        variance_z: Deviation of the whitened variance from 1, in standard errors.
        correlation_z: Largest correlation between whitened releases, in standard errors.
        off_lattice: Share of released numbers that are not multiples of 2**-16.
        versions: Most different releases seen for one index.
        refused: Whether a restart refused to go on: the state does not fit what was released.
    """

    mu: float
    mu_error: float
    promised: float
    variance_z: float
    correlation_z: float
    off_lattice: float
    versions: int
    refused: bool = False

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of the tests that failed."""
        failed = {
            "mu": self.mu - MARGIN * self.mu_error > self.promised,
            "variance": abs(self.variance_z) > NOISE_LIMIT,
            "correlation": self.correlation_z > NOISE_LIMIT,
            "lattice": self.off_lattice > 0.0,
            "versions": self.versions > 1,
            "refused": self.refused,
        }
        return tuple(name for name, bad in failed.items() if bad)

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.failures


def audit(
    make: Callable[[], Releaser],
    without: Sequence[Cut],
    canary: Cut,
    *,
    with_canary: Sequence[Cut] | None = None,
    runs: int = 1000,
    crash_after: int | None = None,
    drive: Drive | None = None,
) -> Verdict:
    """Audit a releaser of the mechanism gaussian, toeplitz or unbounded, landmark memory, default or strict noise.

    Args:
        make: Makes a releaser that has released nothing, with noise of its own each time.
        without: Exact cumulative sums and counts at each cut of the stream without the canary.
        canary: Sum and count of the canary, as the limits allow it at most: the direction tested.
        with_canary: The cuts with the canary; by default the canary in the first window.
        runs: Runs of each kind.
        crash_after: Kill the process after it published this release, and start it again from
            what it had saved.
        drive: Runs a stream in place of the rehearsal; without a crash.

    Returns:
        The verdict.
    """
    if with_canary is None:
        with_canary = [(total + canary[0], count + canary[1]) for total, count in without]
    pattern = make()
    units = pattern.features.units
    settings = pattern.settings
    assert settings is not None
    releases = len(without)
    count_units = settings.count_units(pattern.features.norm_bound)
    c, norm = _encoder(settings.releases, releases)
    # From the published settings alone, by a route of its own.
    rho = settings.budget
    unit = settings.unit_norm(pattern.features.norm_bound, pattern.features.replace_bound)
    sigma = unit * norm
    sigma *= 2**16 / math.sqrt(2.0 * rho)
    encoder = np.array(
        [np.concatenate([c[t::-1], np.zeros(releases - 1 - t)]) for t in range(releases)]
    )
    base = _stack(without, units, count_units)
    direction = np.outer(c, _stack([canary], units, count_units)[0])
    direction = direction / np.linalg.norm(direction)
    scores: dict[bool, F64] = {}
    noise, off_lattice, versions = [], 0.0, 1
    for present, cuts in ((False, without), (True, with_canary)):
        found = np.empty(runs)
        for run in range(runs):
            try:
                if drive is not None:
                    values = [_value(snapshot, count_units) for snapshot in drive(make, cuts)]
                    transcripts, shown = [np.array(values)], 1
                else:
                    transcripts, shown = _drive(make, cuts, crash_after, count_units)
            except PrivacyError:
                return Verdict(0.0, 0.0, math.sqrt(2.0 * rho), 0.0, 0.0, 0.0, 1, True)
            whitened = [
                encoder @ np.diff(values - base, axis=0, prepend=0.0) / sigma
                for values in transcripts
            ]
            # The likelihood ratio of several looks at one stream is the sum of their scores.
            found[run] = sum(float(np.sum(w * direction)) for w in whitened)
            versions = max(versions, shown)
            if not present:
                noise.append(whitened[0])
                if not settings.strict:
                    fraction = transcripts[0] - np.rint(transcripts[0])
                    off_lattice = max(off_lattice, float(np.mean(np.abs(fraction) > 1e-3)))
        scores[present] = found
    mu, error = _mu(scores[False], scores[True])
    variance_z, correlation_z = _noise_tests(np.array(noise))
    promised = math.sqrt(2.0 * rho)
    return Verdict(mu, error, promised, variance_z, correlation_z, off_lattice, versions)


def _encoder(planned: int | None, releases: int) -> tuple[F64, float]:
    """First coefficients of C, and its column norm over all the releases that may come."""
    if planned is not None:
        whole = fx.square_root(planned)
        return coefficients(whole, releases), float(np.linalg.norm(whole))
    blt = fx.unbounded()
    theta, omega = np.array(blt.theta), np.array(blt.omega)
    tail = sum(a * b / (1.0 - s * t) for a, s in zip(omega, theta, strict=True)
               for b, t in zip(omega, theta, strict=True))  # fmt: skip
    return blt.coefficients(releases), math.sqrt(1.0 + float(tail))


class Rehearsal:
    """A stream's state in memory, for releases by the path that runs; see `ingest.parts.State`.

    Args:
        features: The operator.
    """

    def __init__(self, features: Map) -> None:
        self.features = features
        self.now: Cut = (np.zeros(features.spec.classes * features.width, np.int64), 0)
        self.number = 0
        self._saved: bytes | None = None

    @contextmanager
    def releasing(self, wait: bool = False) -> Iterator[bool]:
        """Nobody else releases."""
        yield True

    def identity(self, fresh: bool = False) -> str:
        """There is one copy of it."""
        return "rehearsal"

    def load_release(self) -> tuple[Arrays, dict[str, Any]] | None:
        """What was saved last."""
        return None if self._saved is None else unpack(self._saved, "release")

    def save_release(self, arrays: Arrays, body: dict[str, Any]) -> None:
        """Save it, whole."""
        self._saved = pack("release", arrays, body)

    def superseded(self) -> bool:
        """Nobody else releases."""
        return False

    def cut(self) -> tuple[Sketch, dict[str, Any], int]:
        """The sum up to now."""
        total, count = self.now
        sketch = Sketch(self.features.spec, total, count)
        return sketch, {"rows": {"cut": self.number}}, self.number


def _drive(
    make: Callable[[], Releaser], cuts: Sequence[Cut], crash_after: int | None, count_units: int
) -> tuple[list[F64], int]:
    """Run one stream; returns each transcript an observer can put together, and most versions."""
    first = make()
    state, store = Rehearsal(first.features), Store(f"memory://audit-{secrets.token_hex(8)}")
    makers = chain([lambda: first], repeat(make))
    shown: dict[int, dict[bytes, F64]] = {}
    number, crashed = 0, False
    while number < len(cuts):
        state.now, state.number = cuts[number], number + 1
        try:
            snapshot = release_now(state, store, next(makers), KEEP_ALL)
        except BudgetError:
            break
        assert snapshot is not None
        value = _value(snapshot, count_units)
        shown.setdefault(number, {})[hashlib.sha256(value.tobytes()).digest()] = value
        number += 1
        if number - 1 == crash_after and not crashed:
            crashed = True
            # the copy of the ledger would stop a state that is older: here it is lost as well
            store.fs.rm_file(store.path("ledger.jsonl"))
            saved = state.load_release()
            assert saved is not None
            number = saved[1]["releaser"]["released"]
    versions = max(len(found) for found in shown.values())
    transcripts = [
        np.array([list(found.values())[min(v, len(found) - 1)] for found in shown.values()])
        for v in range(versions)
    ]
    store.fs.rm(store.root, recursive=True)
    return transcripts, versions


def _value(snapshot: Snapshot, count_units: int) -> F64:
    """The released sum and count in units of 2**-16, from what was published."""
    floor = float(snapshot.release.notes.get("count_floor", 0.0))
    parts = [snapshot.mean]
    if snapshot.cells is not None:
        parts.append(snapshot.cells * snapshot.spec.cell_weight)
    total = np.concatenate(parts) * (max(snapshot.count, floor) * 2**16)
    return np.append(total, snapshot.count * count_units)


def _stack(cuts: Sequence[Cut], units: Any, count_units: int) -> F64:
    return np.array(
        [np.append(total * units, round(count_units * count)) for total, count in cuts], float
    )


def _mu(without: F64, present: F64) -> tuple[float, float]:
    spread = math.sqrt(0.5 * float(without.var(ddof=1) + present.var(ddof=1)))
    mu = float(present.mean() - without.mean()) / max(spread, 1e-300)
    n = len(without)
    return mu, math.sqrt(2.0 / n + mu * mu / (4.0 * n))


def _noise_tests(noise: NDArray[Any]) -> tuple[float, float]:
    """Z values of the variance and of the largest correlation; noise is (runs, releases, width)."""
    runs, releases, width = noise.shape
    n = runs * width
    variance_z = (float(np.mean(noise * noise)) - 1.0) * math.sqrt(n * releases / 2.0)
    # Per coordinate as well: a count without noise hides among many coordinates that have it.
    each = (np.mean(noise * noise, axis=(0, 1)) - 1.0) * math.sqrt(runs * releases / 2.0)
    worst = float(each[np.argmax(np.abs(each))])
    if abs(worst) > abs(variance_z):
        variance_z = worst
    rows = noise.transpose(1, 0, 2).reshape(releases, n)
    correlation = np.corrcoef(rows) - np.eye(releases)
    return variance_z, float(np.abs(correlation).max() * math.sqrt(n))
