"""An Arrow Flight server as a source, and the writer that clients use."""

from consumers.flight.client import FlightWriter
from consumers.flight.settings import FlightSettings
from consumers.flight.source import FlightSource, make

__all__ = ["FlightSettings", "FlightSource", "FlightWriter", "make"]
