"""The spec that identifies a sketch operator: its fingerprint travels with every value."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from streamsketch.errors import ConfigError

__all__ = ["Spec"]

#: Fields that are written only where they say something: sketches without cells keep their fingerprints.
CELLS = {"middle": 0, "coarse": 0, "triples": (), "pairs": (), "cell_weight": 1.0}


@dataclass(frozen=True)
class Spec:
    """What identifies a sketch operator; values of different specs never mix.

    Attributes:
        law: Frequency law, or `explicit` for given frequencies.
        d: Dimension of the encoded rows.
        m: Number of frequencies.
        scale: Kernel scale, a length.
        seed: Seed of the frequencies.
        schema_hash: Hash of the schema that encodes the rows; empty for plain arrays.
        classes: Blocks of the sketch, one per label value; 1 when not conditional.
        map: Which feature map, a name in `MAPS`.
        arithmetic: How features are summed: `fixed16`, multiples of 2^-16 in int64.
        omega_hash: Hash of given frequencies; empty when a law draws them.
        middle: Middle cells of an ordered column, where cells are counted; 0 counts none.
        coarse: Coarse cells of an ordered column, where triples are counted; 0 counts none.
        triples: Names of the variables of each counted triple; empty for all.
        pairs: Names of the variables of each counted pair; empty for all.
        cell_weight: Weight of a count beside a Fourier feature, where noise is added.
    """

    law: str
    d: int
    m: int
    scale: float = 1.0
    seed: int = 0
    schema_hash: str = ""
    classes: int = 1
    map: str = "fourier"
    arithmetic: str = "fixed16"
    omega_hash: str = ""
    middle: int = 0
    coarse: int = 0
    triples: tuple[tuple[str, ...], ...] = ()
    pairs: tuple[tuple[str, ...], ...] = ()
    cell_weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", float(self.scale))  # 1 and 1.0 are one spec
        for groups in ("triples", "pairs"):  # lists where they come from JSON
            object.__setattr__(self, groups, tuple(map(tuple, getattr(self, groups))))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of everything above."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON types; those of cells only where there are any."""
        return {k: v for k, v in asdict(self).items() if k not in CELLS or v != CELLS[k]}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Spec":
        """The spec that `to_dict` wrote.

        Raises:
            ConfigError: A field is missing or unknown.
        """
        try:
            made = cls(**body)
            _check(made)
        except (TypeError, ValueError, OverflowError) as e:
            raise ConfigError(
                f"a spec has wrong fields ({e}); it was written by another version"
            ) from None
        return made


def _check(spec: Spec) -> None:
    """Raise TypeError or ValueError where a field holds what no operator has."""
    for f in fields(Spec):
        value, kind = getattr(spec, f.name), type(getattr(_PLAIN, f.name))
        if type(value) is not kind:
            raise TypeError(f"{f.name} is of type {type(value).__name__}")
        least, most = (1, 1 << 40) if f.name in ("d", "m", "classes") else (0, math.inf)
        if kind in (int, float) and not (math.isfinite(value) and least <= value <= most):
            raise ValueError(f"{f.name} is {value}")


_PLAIN = Spec("explicit", 1, 1)
