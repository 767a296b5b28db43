"""The private releaser: what it promises, what it refuses, and what it keeps to itself."""

import json
import logging
import math

import numpy as np
import pytest

from streamsketch.errors import (
    BudgetError,
    ConfigError,
    DamagedFileError,
    PrivacyError,
    SchemaError,
    StoreError,
)
from streamsketch.features import FeatureMap
from streamsketch.privacy import MECHANISMS, Releaser, Settings, explain
from streamsketch.privacy.ledger import KEEP, Ledger
from streamsketch.privacy.memory import Decayed, Sliding
from streamsketch.schema import Column, Schema
from streamsketch.sketcher import Sketcher
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import pack, unpack

FM = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, 40)))
SCHEMA = Schema.vectors(2, -1, 1)
ROWS = np.random.default_rng(1).uniform(-1, 1, (30_000, 2)).astype(np.float32)
PRIVATE = [name for name in MECHANISMS if name != "none"]


def settings_of(name, **more):
    horizon = {"gaussian": 1, "unbounded": None, "decayed": None, "tumbling": None}.get(name, 10)
    return {"rho": 0.5, "releases": horizon, **more}


def make(name="toeplitz", memory="landmark", stream="s", **more):
    return Releaser(
        FM,
        SCHEMA,
        stream=stream,
        mechanism=name,
        memory=memory,
        settings=settings_of(name, **more),
    )


def through_a_file(releaser, target):
    arrays, body = releaser.packed()
    target.restore(*unpack(pack("release", arrays, body), "release"))
    return target


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", PRIVATE)
def test_releases_are_the_memory_plus_the_stated_noise(name, strict):
    """Against the exact memory: the error has the standard deviation that the release states."""
    if name == "unbounded" and strict:
        pytest.skip("unbounded has no strict mode")
    memory = {"decayed": "decayed:0.8", "sliding": "sliding:3"}.get(name, MECHANISMS[name].memory)
    private = make(name, memory, strict=strict)
    exact = Releaser(FM, SCHEMA, memory=memory)
    steps = 1 if name == "gaussian" else 8
    z, count_z = [], []
    for t in range(1, steps + 1):
        part = ROWS[: t * 3000]
        total, count = FM.sum(part), len(part)
        noisy, clean = private.release(total, count), exact.release(total, count)
        error = noisy.mean * noisy.count - clean.mean * clean.count
        z.append(error / noisy.release.noise_std)
        count_z.append((noisy.count - clean.count) / noisy.release.count_std)
        if t == steps // 2:
            private = through_a_file(private, make(name, memory, strict=strict))
    assert np.std(z) == pytest.approx(1.0, abs=5 / math.sqrt(2 * 80 * max(1, steps / 4)))
    assert np.abs(count_z).max() < 5
    assert noisy.release.epsilon == pytest.approx(5.222 if strict else 4.887, abs=2e-3)
    assert np.abs(noisy.mean - clean.mean).max() < 0.1


def test_default_releases_lie_on_the_lattice_and_strict_ones_need_not():
    released = make("toeplitz").release(FM.sum(ROWS), len(ROWS))
    units = released.mean * released.count * 65536
    np.testing.assert_allclose(units, np.rint(units), atol=1e-3)


def test_every_snapshot_says_how_it_was_released():
    snapshot = make(epochs=2).release(
        FM.sum(ROWS), len(ROWS), {"parts": {"a": {"offset": 30_000}}}
    )
    again = Snapshot.from_bytes(snapshot.to_bytes())
    r = again.release
    assert (r.mechanism, r.memory, r.unit, r.adjacency) == (
        "toeplitz",
        "landmark",
        "row",
        "add_remove",
    )
    assert (r.rho, r.delta, r.releases, r.epoch, r.index) == (0.5, 1e-6, 10, 0, 0)
    assert not again.span  # positions tell the exact count
    assert Releaser(FM, SCHEMA).release(FM.sum(ROWS), 9).release.mechanism == "none"


def test_budget_ends_and_epochs_go_on_with_added_variance():
    releaser = make(releases=2, epochs=2)
    total = FM.sum(ROWS)
    assert releaser.left == 4
    stds = [releaser.release(total, len(ROWS)).release.noise_std for _ in range(4)]
    assert [e["kind"] for e in releaser.ledger.entries].count("open") == 2
    assert releaser.ledger.spent == 0.5  # rows of two epochs are different rows
    np.testing.assert_allclose(stds[2] ** 2, stds[1] ** 2 + stds[0] ** 2)
    assert releaser.left == 0
    before = releaser.packed()[1]
    with pytest.raises(BudgetError, match="is spent: all 2 planned"):
        releaser.release(total, len(ROWS))
    assert releaser.packed()[1] == before


def test_endless_mechanisms_do_not_end():
    releaser = make("decayed", "decayed:0.5")
    total = FM.sum(ROWS)
    stds = [releaser.release(total, len(ROWS)).release.noise_std for _ in range(300)]
    assert releaser.left is None
    assert stds[-1] == pytest.approx(stds[-100], rel=1e-9)
    assert make("tumbling", releases="endless").left is None


def test_few_rows_do_not_blow_up_the_mean():
    snapshot = make().release(np.zeros(80, np.int64), 0)
    assert np.abs(snapshot.mean).max() < 10


# --- what is refused


def test_memory_and_settings_must_fit_the_mechanism():
    assert make("decayed").memory == Decayed(0.99)
    assert make("sliding").memory == make("sliding", "sliding").memory == Sliding(24)
    assert make("sliding", "sliding:5").memory == make("sliding", Sliding(5)).memory == Sliding(5)
    assert make("sliding", panes=5).memory == Sliding(5)
    assert (
        make("decayed", decay=0.5).memory == make("decayed", "decayed:0.50").memory == Decayed(0.5)
    )
    for bad in ({"decay": 1.0}, {"decay": True}, {"decay": "much"}):
        with pytest.raises(ConfigError, match="keep|decay"):
            make("decayed", **bad)
    for bad in (0, True, 2.5):
        with pytest.raises(ConfigError, match="panes"):
            make("sliding", panes=bad)
    with pytest.raises(ConfigError, match="protects a landmark memory"):
        make("toeplitz", "tumbling")
    with pytest.raises(ConfigError, match="needs privacy settings"):
        Releaser(FM, SCHEMA, mechanism="toeplitz")
    with pytest.raises(ConfigError, match='mechanism is "none" but privacy settings'):
        Releaser(FM, SCHEMA, settings={"epsilon": 1.0})
    with pytest.raises(ConfigError, match="epsylon: unknown key"):
        make(epsylon=1.0)
    with pytest.raises(ConfigError, match="not known"):
        make("laplace")


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
def test_impossible_budgets_are_refused_before_a_row_is_read(bad):
    with pytest.raises(ConfigError, match="finite number above 0"):
        Sketcher(SCHEMA, 8, mechanism="toeplitz", privacy={"epsilon": bad})


def test_a_schema_without_bounds_is_refused_with_the_remedy():
    with pytest.raises(SchemaError, match="declare the public limits low and high"):
        Schema([Column("x", "numeric")])


def test_unit_user_needs_a_user_column():
    with pytest.raises(ConfigError, match="user_id"):
        make(unit="user", windows=3)


def restored(change, releases=2, **more):
    releaser = make(**more)
    for t in range(1, releases + 1):
        releaser.release(FM.sum(ROWS[: t * 100]), t * 100)
    arrays, body = releaser.packed()
    arrays, body = dict(arrays), json.loads(json.dumps(body))
    change(arrays, body)
    make(**more).restore(arrays, body)


def other_release():
    return np.frombuffer(make().release(FM.sum(ROWS[:200]), 200).to_bytes(), np.uint8)


def edit_entry(body, n, **values):
    body["ledger"]["entries"][n].update(values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a, b: b["ledger"]["entries"].pop(), "not of one state"),
        (lambda a, b: b["ledger"]["entries"].pop(1), "does not fit the chain"),
        (lambda a, b: edit_entry(b, 0, spent=0.0), "does not fit the chain"),
        (lambda a, b: edit_entry(b, 1, stream="t"), "is of stream 't'"),
        (lambda a, b: b["ledger"].update(entries=[]), "not of one state"),
        (lambda a, b: b.pop("ledger"), "unreadable"),
        (lambda a, b: b["ledger"].update(entries=7), "unreadable"),
        (lambda a, b: b["ledger"].update(stream="t"), "is of stream 't'"),
        (lambda a, b: b.update(index=1), "not of one state"),
        (lambda a, b: b["settings"].update(rho=5.0), "rho = 5.0"),
        (lambda a, b: b["settings"].update(releases=99), "cannot be changed"),
        (lambda a, b: a.pop("noise.z"), "noise 'z' is missing"),
        (lambda a, b: a.update({"noise.z": np.zeros((2, 3))}), "of shape"),
        (lambda a, b: a.update(pending=other_release()), "not the one in its ledger"),
    ],
)  # fmt: skip
def test_doubtful_state_refuses(change, says):
    with pytest.raises(PrivacyError, match=says):
        restored(change)


@pytest.mark.parametrize(
    "change",
    [
        lambda a, b: a.update(seen=np.zeros(3, np.int64)),
        lambda a, b: a.update(seen=a["seen"].astype(np.float64)),
        lambda a, b: a.pop("seen"),
        lambda a, b: a.update({"memory.total": np.zeros(3)}),
        lambda a, b: b.pop("memory_state"),
        lambda a, b: b.update(seen_count=-1),
        lambda a, b: b.update(seen_count=[5]),
        lambda a, b: b.update(released="many"),
        lambda a, b: b.update(past_variance=-1.0),
        lambda a, b: b.update(past_variance=float("inf")),
        lambda a, b: b.update(key="00"),
    ],
)
def test_a_state_of_wrong_shapes_or_ranges_is_damaged(change):
    """A checksum is no validation."""
    with pytest.raises(DamagedFileError, match="saved release state"):
        restored(change)


def test_foreign_state_refuses():
    with pytest.raises(StoreError, match="stream = 'other'"):
        restored(lambda a, b: b.update(stream="other"))
    with pytest.raises(StoreError, match="fingerprint"):
        restored(lambda a, b: b.update(fingerprint="0" * 16))


def test_sums_older_than_the_ledger_refuse():
    releaser = make()
    releaser.release(FM.sum(ROWS[:100]), 100)
    with pytest.raises(PrivacyError, match="older than the ledger"):
        releaser.release(FM.sum(ROWS[:50]), 50)
    with pytest.raises(PrivacyError, match="moved further"):
        releaser.release(FM.sum(ROWS), 101)
    with pytest.raises(PrivacyError, match="shape"):
        releaser.release(np.zeros(3, np.int64), 101)
    releaser.release(FM.sum(ROWS[:150]), 150)


def test_more_epochs_may_be_planned_later():
    releaser = make(releases=1)
    releaser.release(FM.sum(ROWS[:100]), 100)
    longer = through_a_file(releaser, make(releases=1, epochs=2))
    longer.release(FM.sum(ROWS), len(ROWS))


# --- the ledger


def test_clock_going_backwards_changes_nothing(monkeypatch):
    from streamsketch.privacy import exact

    times = iter(["2026-01-02T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])
    monkeypatch.setattr(exact, "_now", lambda: next(times))
    releaser = make()
    for n in (100, 200):
        releaser.release(FM.sum(ROWS[:n]), n)
    releaser.ledger.verify()
    entry = releaser.ledger.last("release")
    assert entry["clock_went_back_to"].startswith("2026-01-01")
    assert entry["at"].startswith("2026-01-02")
    assert "clock went backwards" in explain(releaser)
    through_a_file(releaser, make())


def test_the_copy_may_lag_but_not_lead():
    old, new = Ledger("s"), Ledger("s")
    for i in range(4):
        new.append("release", at=f"2026-01-0{i + 1}", index=i)
    old.entries = [dict(e) for e in new.entries[:2]]
    text = new.lines()
    new.check_copy("")
    new.check_copy(old.lines())
    new.check_copy(text)
    new.check_copy(text + '{"torn')  # a crash cut the last line
    new.check_copy("\n".join(text.split("\n")[2:]))  # only the end is read of a long copy
    with pytest.raises(PrivacyError, match="older than what was released"):
        old.check_copy(text)
    with pytest.raises(PrivacyError, match="older than what was released"):
        Ledger("s").check_copy(text)
    with pytest.raises(PrivacyError, match="does not fit the chain"):
        new.check_copy(text.replace("2026-01-02", "2026-01-09"))
    with pytest.raises(PrivacyError, match="not an entry"):
        new.check_copy("garbage\n" + text)
    other = Ledger("t")
    other.append("release", at="2026-01-01")
    with pytest.raises(PrivacyError, match="of stream 't'"):
        new.check_copy(other.lines())
    forked = Ledger("s")
    forked.append("release", at="2025-01-01", index=0)
    with pytest.raises(PrivacyError, match="differs from the state"):
        new.check_copy(forked.lines())


def test_no_refunds_and_bounded_state():
    ledger = Ledger("s")
    for bad in (-0.1, float("nan")):
        with pytest.raises(PrivacyError, match="no refunds"):
            ledger.append("query", at="2026", charge=bad)
    ledger.append("query", at="2026", charge=0.25, name="scale")
    for i in range(KEEP + 5):
        ledger.append("release", at="2026", index=i)
    assert len(ledger.entries) == KEEP
    assert ledger.spent == 0.25
    assert Ledger.from_dict(json.loads(json.dumps(ledger.to_dict())), "s").head == ledger.head


# --- two planes


def test_nothing_exact_is_said(caplog):
    """Counts and sums of the rows appear in no repr, log, error, ledger or report."""
    with caplog.at_level(logging.DEBUG):
        # So much noise that no released number comes near an exact one by chance.
        sketcher = Sketcher(SCHEMA, 8, mechanism="toeplitz", privacy={"rho": 1e-4, "releases": 2})
        sketcher.learn_many(np.resize(ROWS, (1_234_567, 2)))
        snapshots = [sketcher.release(), sketcher.release()]
        try:
            sketcher.release()
        except BudgetError as error:
            logging.getLogger("x").error("%s", error)
        r = sketcher.releaser
        said = [
            caplog.text, repr(sketcher), repr(sketcher.sketch), repr(r), repr(r.settings),
            explain(r), r.ledger.lines(),
            *(explain(s) for s in snapshots), *(repr(s) for s in snapshots),
            *(json.dumps(s.release.notes) for s in snapshots), *(str(dict(s.span)) for s in snapshots),
        ]  # fmt: skip
    exact = {"1234567", "1,234,567", *(str(v) for v in sketcher.sketch.total)}
    exact |= {f"{np.linalg.norm(sketcher.sketch.total) / 65536:.6g}"}
    for text in said:
        assert not [e for e in exact if len(e) > 6 and e in text]
    secret = r.packed()[1]["key"]
    assert all(secret not in text for text in said)


def test_settings_of_the_time_of_weights_are_read():
    """Old files and pipelines may say `w_max = 1`, what it always was; more is refused."""
    releaser = make(w_max=1.0)
    restored(lambda _, body: body["settings"].update(w_max=1.0))
    with pytest.raises(ConfigError, match="rows carry no weights"):
        make(w_max=2.0)
    with pytest.raises(PrivacyError, match="w_max"):
        restored(lambda _, body: body["settings"].update(w_max=2.0))
    assert releaser.method.sigma == make().method.sigma


def test_test_mode_is_loud_and_repeatable(caplog):
    def run():
        r = Releaser(
            FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5, "releases": 3},
            test_generator=np.random.default_rng(7),
        )  # fmt: skip
        return r.release(FM.sum(ROWS), len(ROWS))

    with caplog.at_level(logging.WARNING):
        a, b = run(), run()
    assert (a.mean == b.mean).all()
    assert "PRIVACY IS OFF" in caplog.text
    assert "TEST MODE" in a.release.notes
    assert "NOT PRIVATE" in explain(a)


def test_explain_speaks_of_every_kind():
    plain = Releaser(FM, SCHEMA)
    assert "not private" in explain(plain)
    assert "nothing was spent" in explain(make())
    strict = make(strict=True, epochs=3, adjacency="replace_one")
    snapshot = strict.release(FM.sum(ROWS), len(ROWS))
    for text in (explain(snapshot), explain(strict), explain(strict.ledger)):
        assert "10 planned releases" in text
        assert "exact discrete" in text
        assert "replaced by any other" in text
        assert "person whose rows" in text
    assert Settings(rho=0.5).epsilon_of(0.0) == 0.0
    for epsilon, word in ((1, "strong"), (3, "usual"), (8, "weak"), (100, "PROTECTS LITTLE")):
        r = Releaser(FM, SCHEMA, mechanism="gaussian", settings={"epsilon": epsilon})
        assert word in explain(r.release(FM.sum(ROWS), len(ROWS)))


def test_buffers_fitted_elsewhere_are_continued(monkeypatch):
    """Another version of the optimiser may fit another series; a stream keeps its own."""
    from streamsketch.privacy import factorization

    releaser = make("blt")
    releaser.release(FM.sum(ROWS[:100]), 100)
    other = factorization.fit_blt(20)
    monkeypatch.setattr(factorization, "fit_blt", lambda *_, **__: other)
    again = make("blt")
    assert again.plan.buffers != releaser.plan.buffers
    again = through_a_file(releaser, again)
    assert again.plan.buffers == releaser.plan.buffers
    assert again.method.sigma == releaser.method.sigma
    again.release(FM.sum(ROWS[:200]), 200)


def test_defaults_suit_the_mechanism():
    def settings(name):
        return Releaser(FM, SCHEMA, mechanism=name, settings={"rho": 0.5}).settings

    assert settings("gaussian").releases == 1
    assert settings("toeplitz").releases == 100
    assert settings("decayed").releases is None


def test_every_epoch_has_the_noise_of_the_first():
    """Two epochs of one release each: what the second adds has the planned deviation too."""
    found = []
    for _ in range(20):
        releaser = make(releases=1, epochs=2)
        previous = np.zeros(FM.width)
        for epoch in range(2):
            snapshot = releaser.release(np.zeros(FM.width, np.int64), 0)
            value = snapshot.mean * max(snapshot.count, snapshot.release.notes["count_floor"])
            found.append((epoch, np.std(value - previous) / releaser.method.sigma))
            previous = value
    for epoch in (0, 1):
        assert np.mean([s for e, s in found if e == epoch]) == pytest.approx(1.0, abs=0.1)


def test_an_epoch_begins_with_noise_of_its_own():
    """What its first release adds has the deviation of one draw, whatever the epoch before drew."""
    found = []
    for _ in range(40):
        releaser = make(releases=2, epochs=2)
        values = []
        for _ in range(3):
            snapshot = releaser.release(np.zeros(FM.width, np.int64), 0)
            values.append(
                snapshot.mean * max(snapshot.count, snapshot.release.notes["count_floor"])
            )
        found.append(np.std(values[2] - values[1]) / releaser.method.sigma)
    assert np.mean(found) == pytest.approx(1.0, abs=0.06)
