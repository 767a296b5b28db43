"""Sites that may not share rows, nor their own sums: only the sum over all sites is seen.

Each pair of sites shares a secret. For one round both derive from it the same stream of 64-bit
numbers; one adds it to its sums, the other subtracts it. Sums are integers modulo 2^64, so the masks
cancel to the last bit when all sites' masked sums are added, and what one site sends is, for whoever
lacks its secrets, uniformly random (Bonawitz et al. 2017, Practical Secure Aggregation, section 4.0.1).

Who sees what: the coordinator sees masked sums and the exact sum over all sites. It is not
differentially private by itself: learn it with a sketcher whose mechanism is on, and release.
The coordinator and the sites follow the protocol but are curious; a coordinator that plays together
with all sites but one learns the sums of that one.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError, SpecMismatchError
from streamsketch.features import Spec
from streamsketch.sketch import Sketch
from streamsketch.storage.files import pack, unpack

__all__ = ["Masked", "Site", "unmask"]

SECRET_BYTES = 32


@dataclass(frozen=True)
class Masked:
    """What a site sends: its sums under the masks of a round.

    Attributes:
        site: Who sends it.
        sites: All sites of the round, sorted.
        round: Name of the round; masks of another round do not cancel.
        spec: The operator.
        values: (1 + length of the sum,) uint64: count, then sums, masked modulo 2^64.
    """

    site: str
    sites: tuple[str, ...]
    round: str
    spec: Spec
    values: NDArray[np.uint64]

    def to_bytes(self) -> bytes:
        """It as a file's bytes."""
        body: dict[str, Any] = {
            "site": self.site,
            "sites": list(self.sites),
            "round": self.round,
            "spec": self.spec.to_dict(),
        }
        return pack("masked", {"values": self.values}, body)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Masked":
        """What `to_bytes` wrote.

        Raises:
            DamagedFileError: The bytes are not those of a masked sketch.
        """
        arrays, body = unpack(data, "masked")
        spec = Spec.from_dict(body["spec"])
        return cls(body["site"], tuple(body["sites"]), body["round"], spec, arrays["values"])


class Site:
    """One of the sites: masks its sketch so that only the sum over all sites can be read.

    Args:
        name: Its name.
        secrets: For each other site, the 32 random bytes that the two share and nobody else has
            (`secrets.token_bytes(32)`, or the result of a key agreement).

    Raises:
        ConfigError: No other site, or a secret of another length.

    Example:
        >>> from streamsketch import FeatureMap
        >>> fm = FeatureMap.from_frequencies(np.ones((1, 2)))
        >>> north, south = Sketch.zero(fm), Sketch.zero(fm)
        >>> north.update(fm, np.zeros((3, 1))); south.update(fm, np.zeros((4, 1)))
        >>> shared = bytes(range(32))
        >>> sent = [Site("north", {"south": shared}).mask(north, "monday"),
        ...         Site("south", {"north": shared}).mask(south, "monday")]
        >>> total = unmask(sent)
        >>> total.count, total.total.tolist() == (north + south).total.tolist()
        (7, True)
    """

    def __init__(self, name: str, secrets: Mapping[str, bytes]) -> None:
        if not secrets or name in secrets:
            raise ConfigError(f"site {name!r} needs secrets with the other sites, at least one")
        for other, secret in secrets.items():
            if len(secret) != SECRET_BYTES:
                raise ConfigError(
                    f"the secret of {name!r} and {other!r} has {len(secret)} bytes; share {SECRET_BYTES} random ones"
                )
        self.name = name
        self._secrets = dict(secrets)

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, sorted."""
        return tuple(sorted({self.name, *self._secrets}))

    def mask(self, sketch: Sketch, round: str) -> Masked:
        """The sketch under the masks of a round. Never send two sketches in rounds of one name."""
        values = np.append(np.int64(sketch.count), sketch.total).view(np.uint64)
        for other in self._secrets:
            values = values + _mask(self.name, other, self._key(round, other), len(values))
        return Masked(self.name, self.sites, round, sketch.spec, values)

    def reveal(self, round: str, missing: Sequence[str]) -> dict[str, bytes]:
        """This round's keys with sites that dropped out before they sent anything.

        The keys open the masks of this round alone. A site that was given up must not send its
        sketch of this round any more: with the keys it could be read.

        Raises:
            ConfigError: Not one of the other sites.
        """
        unknown = [other for other in missing if other not in self._secrets]
        if unknown:
            raise ConfigError(f"{unknown} are no sites that {self.name!r} shares a secret with")
        return {other: self._key(round, other) for other in missing}

    def _key(self, round: str, other: str) -> bytes:
        return hmac.digest(self._secrets[other], b"round\0" + round.encode(), "sha256")

    def __repr__(self) -> str:
        return f"Site({self.name!r}, sites={len(self.sites)})"


def unmask(
    sent: Sequence[Masked], revealed: Mapping[str, Mapping[str, bytes]] | None = None
) -> Sketch:
    """The sketch of the rows of all sites that sent theirs.

    Args:
        sent: One masked sketch of each site.
        revealed: Where sites dropped out, what `Site.reveal` gave at each site that sent: site ->
            missing site -> key.

    Raises:
        DataError: A site is missing and its keys were not revealed, or one sent twice.
        ConfigError: Nothing was sent, or of different rounds.
        SpecMismatchError: The operators differ.
    """
    if not sent:
        raise ConfigError("nothing was sent; give the masked sketches of all sites")
    first = sent[0]
    names = [m.site for m in sent]
    if len(set(names)) != len(names):
        raise DataError(f"sites {sorted(names)} hold one twice; give each site's sketch once")
    for other in sent:
        if (other.round, other.sites) != (first.round, first.sites):
            raise ConfigError(
                f"site {other.site!r} masked for round {other.round!r} of {list(other.sites)}, site {first.site!r} for "
                f"round {first.round!r} of {list(first.sites)}; masks cancel within one round of the same sites"
            )
        if other.spec.fingerprint != first.spec.fingerprint:
            raise SpecMismatchError.of(
                "add masked sketches", first.spec.fingerprint, other.spec.fingerprint
            )
    total = np.zeros_like(first.values)
    for masked in sent:
        total = total + masked.values
        for missing in sorted(set(first.sites) - set(names)):
            key = (revealed or {}).get(masked.site, {}).get(missing)
            if key is None:
                raise DataError(
                    f"site {missing!r} sent nothing in round {first.round!r}, so that the masks do not cancel; wait "
                    f"for it, or give what Site.reveal says at every site that sent (lacking: {masked.site!r})"
                )
            total = total - _mask(masked.site, missing, key, len(total))
    signed = total.view(np.int64)
    return Sketch(first.spec, signed[1:].copy(), int(signed[0]))


def _mask(mine: str, other: str, key: bytes, length: int) -> NDArray[np.uint64]:
    """The mask (length,) of a pair: added by the site whose name comes first, subtracted by the other."""
    stream = hashlib.shake_256(b"mask\0" + key).digest(8 * length)
    numbers = np.frombuffer(stream, "<u8").astype(np.uint64)
    return numbers if mine < other else np.uint64(0) - numbers
