import math

import pytest

from streamsketch.errors import ConfigError
from streamsketch.privacy import Settings, epsilon_from_rho, rho_from_epsilon


# dp-accounting 0.6.0 / PLD: exact Gaussian; Renyi conversion for zCDP.
@pytest.mark.parametrize(("rho", "exact", "zcdp"), [(0.5, 4.887, 5.222), (0.1, 1.995, 2.143)])
def test_golden_epsilons(rho, exact, zcdp):
    assert epsilon_from_rho(rho, 1e-6) == pytest.approx(exact, abs=1e-3)
    assert epsilon_from_rho(rho, 1e-6, strict=True) == pytest.approx(zcdp, abs=1.5e-3)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("epsilon", [0.01, 0.2, 1.0, 8.0, 50.0])
def test_there_and_back(epsilon, strict):
    rho = rho_from_epsilon(epsilon, 1e-5, strict=strict)
    assert epsilon_from_rho(rho, 1e-5, strict=strict) <= epsilon * (1 + 1e-6)
    assert epsilon_from_rho(rho * 1.01, 1e-5, strict=strict) > epsilon


def test_exact_curve_is_the_balle_wang_formula():
    from scipy.stats import norm

    rho, epsilon = 0.5, epsilon_from_rho(0.5, 1e-6)
    mu = math.sqrt(2 * rho)
    delta = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(1e-6, rel=1e-4)


def test_epsilon_one_is_the_studys_sigma():
    """sigma 3.73 for epsilon = 1, delta = 1e-5, sensitivity 1."""
    assert 1 / math.sqrt(2 * rho_from_epsilon(1.0, 1e-5)) == pytest.approx(3.73, abs=0.01)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "1", True, None])
@pytest.mark.parametrize("name", ["epsilon", "rho"])
def test_impossible_budgets(name, bad):
    if bad is None:
        with pytest.raises(ConfigError, match="exactly one"):
            Settings(**{name: bad})
        return
    with pytest.raises(ConfigError, match=f"{name} is .*finite number above 0; set"):
        Settings(**{name: bad})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("delta", 0.0), ("delta", 1.0), ("delta", float("nan")), ("releases", 0), ("releases", 2.5),
        ("epochs", 0), ("windows", 0),
        ("count_weight", -1), ("unit", "person"), ("adjacency", "swap"),
        ("separation", -3), ("buffers", 0),
    ],
)  # fmt: skip
def test_impossible_settings(field, bad):
    with pytest.raises(ConfigError, match=field):
        Settings(**{"rho": 0.5, field: bad})


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match="exactly one"):
        Settings(epsilon=1.0, rho=0.5)
    with pytest.raises(ConfigError, match="user may come back"):
        Settings(rho=0.5, unit="user", epochs=2)
    with pytest.raises(ConfigError, match="lies in one window"):
        Settings(rho=0.5, windows=3)
    assert Settings(**Settings(epsilon=1).to_dict()) == Settings(epsilon=1)


def test_sensitivity_follows_from_the_norm_bound():
    base = Settings(rho=0.5)
    row = math.sqrt(1000) * math.hypot(1, 0.1)
    assert base.unit_norm(math.sqrt(1000)) == pytest.approx(row, rel=1e-5)
    assert Settings(rho=0.5, adjacency="replace_one").unit_norm(1.0) == pytest.approx(
        2 * base.unit_norm(1.0)
    )
    user = Settings(rho=0.5, unit="user", windows=5, rows=4)
    assert user.unit_norm(1.0) == pytest.approx(4 * base.unit_norm(1.0))
