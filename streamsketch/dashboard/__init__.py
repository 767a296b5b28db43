"""The live page of a store, and rows over HTTP. It reads released files and statuses only."""

from streamsketch.dashboard.app import make_app

__all__ = ["make_app"]
