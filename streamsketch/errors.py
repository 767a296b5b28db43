"""The exception tree: every error streamsketch raises on purpose.

```
StreamSketchError            exit code 1: failure at work
├── ConfigError              exit code 2: a wrong call or configuration
│   └── SchemaError          a schema that contradicts itself or the data's columns
├── DataError                rows that the schema refuses
├── SpecMismatchError        two sketch operators that differ
├── StoreError               files and folders
│   ├── DamagedFileError     a file that fails its checksum or cannot be parsed
│   ├── FencedError          another process has taken this state over
│   └── LockedError          another process is using this state
├── SourceError              a stream that cannot be read
├── PrivacyError             a release that would break its promise
│   └── BudgetError          the privacy budget is spent
└── TrainingError            training that cannot go on
```

Each message is one sentence that names the thing, the value, the rule and the remedy.
"""

__all__ = [
    "BudgetError",
    "ConfigError",
    "DamagedFileError",
    "DataError",
    "FencedError",
    "LockedError",
    "PrivacyError",
    "SchemaError",
    "SourceError",
    "SpecMismatchError",
    "StoreError",
    "StreamSketchError",
    "TrainingError",
]


class StreamSketchError(Exception):
    """Base of all errors of this library; `exit_code` is what the command exits with."""

    exit_code = 1


class ConfigError(StreamSketchError):
    """A wrong call or configuration; nothing was done."""

    exit_code = 2


class SchemaError(ConfigError):
    """A schema that contradicts itself, or a table whose columns do not fit it."""


class DataError(StreamSketchError):
    """Rows that the schema refuses; nothing of the batch entered the sketch."""


class SpecMismatchError(StreamSketchError):
    """Two values made by different sketch operators; the message shows both fingerprints."""

    @classmethod
    def of(cls, doing: str, mine: str, theirs: str) -> "SpecMismatchError":
        """Build the message for `doing` between the fingerprints `mine` and `theirs`.

        >>> print(str(SpecMismatchError.of("merge", "aa", "bb")).partition(";")[0])
        cannot merge: the operator fingerprints differ (aa and bb)
        """
        return cls(
            f"cannot {doing}: the operator fingerprints differ ({mine} and {theirs}); make both "
            "from the same schema, law, number of frequencies, scale and seed"
        )


class StoreError(StreamSketchError):
    """A file or folder that cannot be read or written."""


class DamagedFileError(StoreError):
    """A file that is truncated, altered, or not of the expected kind."""


class FencedError(StoreError):
    """Another process has taken this part over; what this one still holds must be dropped."""


class LockedError(StoreError):
    """Another live process holds this state."""


class SourceError(StreamSketchError):
    """A stream that cannot be opened or read."""


class PrivacyError(StreamSketchError):
    """A release that would break the privacy promise."""


class BudgetError(PrivacyError):
    """The privacy budget is spent: consuming may go on, releasing may not."""


class TrainingError(StreamSketchError):
    """Training that cannot start or go on."""
