"""Sampling that remembers: new rows are chosen by what is missing from all rows drawn before."""

from streamsketch.sampler.energy import energy_points, signed_measure, squared_distance
from streamsketch.sampler.herding import Herding, energy_frequencies, energy_weights
from streamsketch.sampler.history import History
from streamsketch.sampler.kernels import KERNELS
from streamsketch.sampler.methods import METHODS
from streamsketch.sampler.report import SamplingReport, sampling_report
from streamsketch.sampler.sampler import Sampler
from streamsketch.sampler.targets import GaussianTarget, MixtureTarget, SampleTarget
from streamsketch.sampler.unique import RowFilter

__all__ = [
    "KERNELS",
    "METHODS",
    "Herding",
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
