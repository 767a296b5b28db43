"""The version, in one place that the build reads."""

__version__ = "0.1.0"
