"""Sampling that remembers: new rows are chosen by what is missing from all rows drawn before."""

from streamsketch.sampler.debt import DebtSelector, energy_frequencies, energy_weights
from streamsketch.sampler.energy import energy_points, signed_measure, squared_distance
from streamsketch.sampler.history import History
from streamsketch.sampler.kernels import KERNELS
from streamsketch.sampler.report import SamplingReport, sampling_report
from streamsketch.sampler.sampler import SAMPLERS, Sampler
from streamsketch.sampler.targets import GaussianTarget, MixtureTarget, SampleTarget
from streamsketch.sampler.unique import RowFilter

__all__ = [
    "KERNELS",
    "SAMPLERS",
    "DebtSelector",
    "GaussianTarget",
    "History",
    "MixtureTarget",
    "RowFilter",
    "SampleTarget",
    "Sampler",
    "SamplingReport",
    "energy_frequencies",
    "energy_points",
    "energy_weights",
    "sampling_report",
    "signed_measure",
    "squared_distance",
]
