"""Numbers and pictures that say how close synthetic rows are to real ones.

Every judgement stands between two anchors: other real rows (nothing can do better) and the real
rows with each column shuffled on its own (right marginals, no dependence at all).
"""

from streamsketch.evaluate.classifiers import binned_auc, tstr, two_sample_auc
from streamsketch.evaluate.distances import energy_distance, mmd2
from streamsketch.evaluate.structure import (
    Marginal,
    association_difference,
    associations,
    marginals,
    pair_tv,
)
from streamsketch.evaluate.tables import METRICS, Evaluation, evaluate

__all__ = [
    "METRICS",
    "Evaluation",
    "Marginal",
    "association_difference",
    "associations",
    "binned_auc",
    "energy_distance",
    "evaluate",
    "marginals",
    "mmd2",
    "pair_tv",
    "tstr",
    "two_sample_auc",
]
