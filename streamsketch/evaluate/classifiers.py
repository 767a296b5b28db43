"""Metrics that train a classifier: to tell synthetic from real rows, or to learn from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate.frame import Data, Frame, frames
from streamsketch.evaluate.structure import binned

MAX_ROWS = 20_000
"""Rows of each side that a classifier is trained on; more are sampled down to this many."""

_FOLDS = 3


def two_sample_auc(
    real: "Data", synthetic: "Data", seed: int = 0, *, rows: int = MAX_ROWS
) -> float:
    """How well gradient boosting tells synthetic rows from real ones (C2ST).

    The area under the ROC curve of three-fold cross-validation on equally many rows of each,
    mirrored to be at least 0.5: 0.5 means that nothing was found, 1.0 that every row is told
    apart. It saturates: rounding a number differently is enough for 1.0, so read it beside
    `binned_auc` and `pair_tv`, and beside the two anchors of `evaluate`.

    Args:
        real: Arrow table, array (n, d) or frame.
        synthetic: the same columns.
        seed: seed of the folds, the row sample and the boosting.
        rows: at most this many rows of each side, sampled without replacement.

    Raises:
        DataError: fewer than 2 rows per fold, or columns that cannot be compared.

    References:
        Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", 2017.

    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> two_sample_auc(x[:200], x[200:]) < 0.6 < 0.9 < two_sample_auc(x[:200], x[200:] + 3)
    True
    """
    a, b = _equal(real, synthetic, seed, rows)
    values = _filled(np.concatenate([a.values, b.values]))
    return _separation(values, a.rows, seed, lambda: _boosting(a, seed))


def binned_auc(
    real: "Data", synthetic: "Data", seed: int = 0, *, bins: int = 10, rows: int = MAX_ROWS
) -> float:
    """Like `two_sample_auc` with a linear model of the marginals (C2ST-b): it does not saturate.

    Logistic regression on the one-hot code of each column, a number cut at `bins` quantiles of
    the real rows. It sees wrong marginals and nothing else.

    Args:
        real: Arrow table, array (n, d) or frame.
        synthetic: the same columns.
        seed: seed of the folds and the row sample.
        bins: bins of a numeric column.
        rows: at most this many rows of each side.

    Raises:
        DataError: fewer than 2 rows per fold, or columns that cannot be compared.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    a, b = _equal(real, synthetic, seed, rows)
    codes = np.concatenate([part.codes for part in binned(a, b, bins=bins)])
    return _separation(
        codes,
        a.rows,
        seed,
        lambda: make_pipeline(
            OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=300, tol=1e-3)
        ),
    )


def tstr(
    synthetic: "Data", real: "Data", label: str, seed: int = 0, *, rows: int = 2 * MAX_ROWS
) -> float:
    """Train on synthetic, test on real: the ROC AUC of gradient boosting that predicts `label`.

    Args:
        synthetic: rows to train on.
        real: rows to test on, the same columns.
        label: the column to predict; a number is taken as a class.
        seed: seed of the boosting and the row sample.
        rows: at most this many rows to train on.

    Returns:
        Area under the ROC curve; for more than two classes the mean over each class against the
        rest. 0.5 where the synthetic rows hold one class only.

    Raises:
        ConfigError: there is no such column.
        DataError: the real rows hold one class only.
    """
    train, test = frames(synthetic, real, categorical=(label,))
    if label not in train.names:
        msg = f"There is no column {label!r} to predict; the columns are {list(train.names)}"
        raise ConfigError(msg)
    train = train.sample(rows, np.random.default_rng(seed))
    at = train.names.index(label)
    truth = test.values[:, at].astype(np.intp)
    if len(np.unique(truth)) < 2:
        msg = f"Column {label!r} has one value in the real rows; nothing can be predicted"
        raise DataError(msg)
    known = train.values[:, at].astype(np.intp)
    if len(np.unique(known)) < 2:
        return 0.5
    inputs = [j for j in range(len(train.names)) if j != at]
    values = _filled(np.concatenate([train.values[:, inputs], test.values[:, inputs]]))
    model = _boosting(train, seed, inputs).fit(values[: train.rows], known)
    scores = np.zeros((test.rows, int(max(truth.max(), known.max())) + 1))
    scores[:, model.classes_] = model.predict_proba(values[train.rows :])
    return _mean_auc(truth, scores)


def _mean_auc(truth: NDArray[np.intp], scores: NDArray[np.float64]) -> float:
    """One against the rest, averaged over the classes that the truth holds (two give the same)."""
    from sklearn.metrics import roc_auc_score

    classes = np.unique(truth)
    return float(np.mean([roc_auc_score(truth == c, scores[:, c]) for c in classes]))


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nulls below all values: boosting refuses a column that is null in a whole fold."""
    null = np.isnan(values)
    if not null.any():
        return values
    lowest = np.where(null, np.inf, values).min(axis=0)
    return np.where(null, np.where(np.isfinite(lowest), lowest - 1.0, 0.0), values)


def _equal(real: "Data", synthetic: "Data", seed: int, rows: int) -> tuple[Frame, Frame]:
    a, b = frames(real, synthetic)
    count = min(a.rows, b.rows, rows)
    if count < 2 * _FOLDS:
        msg = (
            f"Expected at least {2 * _FOLDS} rows on each side of a two-sample test, got {a.rows} "
            f"and {b.rows}"
        )
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    return a.sample(count, rng), b.sample(count, rng)


def _separation(
    values: NDArray[Any], reals: int, seed: int, make_model: Callable[[], Any]
) -> float:
    """Mean ROC AUC over the folds, mirrored at one half."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    truth = np.arange(len(values)) >= reals
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(values, truth)
    scores = []
    for train, test in folds:
        model = make_model().fit(values[train], truth[train])
        scores.append(roc_auc_score(truth[test], model.predict_proba(values[test])[:, 1]))
    area = float(np.mean(scores))
    return max(area, 1.0 - area)


def _boosting(frame: Frame, seed: int, columns: list[int] | None = None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    mask = frame.is_category if columns is None else frame.is_category[columns]
    return HistGradientBoostingClassifier(
        categorical_features=mask, early_stopping=False, random_state=seed
    )
