"""Runnable stream consumers: sources, sinks and dead letters for streamsketch.

Each is found by the `streamsketch` command under an entry point, so that another package can
offer more of them. This package imports streamsketch, never the reverse; kafka-python and
pyarrow.flight are imported in here only.
"""
