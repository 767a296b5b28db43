"""An Arrow Flight server as a source, and the writer that clients use."""

from streamsketch_consumers.flight.client import FlightWriter
from streamsketch_consumers.flight.settings import FlightSettings
from streamsketch_consumers.flight.source import FlightSource, make

__all__ = ["FlightSettings", "FlightSource", "FlightWriter", "make"]
