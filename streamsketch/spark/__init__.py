"""Sketches of Spark data frames: one small partial sum a task, merged exactly.

>>> from streamsketch.spark import sketch, refused  # doctest: +SKIP
>>> sketcher = sketch(df, schema, frequencies=1024)  # doctest: +SKIP
>>> snapshot = sketcher.release()  # doctest: +SKIP

Sums are integers, so the result does not depend on how Spark cuts the data: it is the sketch of one
pass over all rows, to the last bit. Only the schema and the operator's settings travel to the tasks,
a few kilobytes; each task draws the frequencies again from the seed. Everything goes through the
DataFrame API, so that Spark Connect serves as well as a classic session.
"""

from streamsketch.spark.frames import refused, sketch
from streamsketch.spark.stream import Batches

__all__ = ["Batches", "refused", "sketch"]
