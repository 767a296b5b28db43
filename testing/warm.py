"""Imported once by the process that `testing.forks` forks from: modules, and the compiled kernel."""

import numpy as np
import streamsketch_consumers.flight

import testing.ingest_worker
from testing.kafka_member import D, features

__all__ = ["streamsketch_consumers", "testing"]

features().sum(np.zeros((1, D), np.float32))
