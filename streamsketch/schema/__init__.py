"""Columns with declared limits, and the map between Arrow rows and vectors in a bounded box."""

from streamsketch.schema.columns import Block, Column
from streamsketch.schema.rows import Encoded, Rejected
from streamsketch.schema.schema import Schema

__all__ = ["Block", "Column", "Encoded", "Rejected", "Schema"]
