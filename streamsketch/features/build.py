"""From a spec to its feature map."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from streamsketch.errors import ConfigError
from streamsketch.features.spec import Spec

if TYPE_CHECKING:
    from streamsketch.schema import Schema

__all__ = ["MAPS", "build"]

MAPS = {
    "fourier": "streamsketch.features.map:FeatureMap",
    "signature": "streamsketch.features.signature:SignatureMap",
    "quadratic": "streamsketch.features.moments:QuadraticMap",
    "quartic": "streamsketch.features.moments:QuarticMap",
}


def build(spec: Spec, schema: "Schema | None" = None) -> Any:
    """The feature map that a spec names (see `MAPS`).

    Raises:
        ConfigError: The map is unknown.
    """
    blocks = () if schema is None else schema.blocks
    if spec.middle:
        from streamsketch.features.table import TableMap

        assert schema is not None
        return TableMap.from_spec(spec, schema)
    if spec.map not in MAPS:
        raise ConfigError(f"feature map {spec.map!r} is unknown; choose one of {', '.join(MAPS)}")
    return resolve_name(MAPS[spec.map]).from_spec(spec, blocks)
