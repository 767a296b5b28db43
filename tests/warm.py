"""Imported once by the process that `tests.forks` forks from: modules, and the compiled kernel."""

import numpy as np

import consumers.flight
import tests.consumers.ingest_worker
from tests.kafka_member import D, features

__all__ = ["consumers", "tests"]

features().sum(np.zeros((1, D), np.float32))
