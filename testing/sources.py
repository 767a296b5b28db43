"""What test sources have in common."""


class BareSource:
    """A source that is told nothing, lags behind nothing and holds nothing open."""

    finished = False

    def saved(self, positions):
        pass

    def lag(self):
        return {}

    def close(self):
        pass
