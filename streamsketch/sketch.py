"""The sketch: an exact sum of features and a count. Raw, secret, mergeable."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError, SpecMismatchError
from streamsketch.features.kernels import ONE

if TYPE_CHECKING:
    from streamsketch.features import Map
    from streamsketch.features.spec import Spec

__all__ = ["MOST_ROWS", "Sketch"]

#: One feature of a row is at most 2^16 units, so that sums of this many rows cannot wrap.
MOST_ROWS = (2**63 - 1) // ONE


@dataclass
class Sketch:
    """The running sum of features of all rows seen, in fixed point.

    Sums are exact: merging is associative and commutative to the bit. This value is secret; what
    leaves the sketching process is a released `Snapshot`.

    Attributes:
        spec: The operator's spec.
        total: (classes * width,) int64: features in units of 2^-16, then counts of cells if any.
        count: Rows summed.

    Example:
        >>> from streamsketch.features import FeatureMap
        >>> fm = FeatureMap.from_frequencies(np.ones((2, 3)))
        >>> a, b = Sketch.zero(fm), Sketch.zero(fm)
        >>> a.update(fm, np.zeros((4, 2))); b.update(fm, np.zeros((1, 2)))
        >>> (a + b).total.tolist() == [5 * 65536] * 3 + [0] * 3
        True
    """

    spec: "Spec"
    total: NDArray[np.int64]
    count: int = 0

    @classmethod
    def zero(cls, features: "Map") -> "Sketch":
        """The sketch of no rows."""
        return cls(features.spec, np.zeros(features.spec.classes * features.width, np.int64))

    def update(
        self, features: "Map", x: NDArray[Any], labels: NDArray[np.int64] | None = None
    ) -> None:
        """Add rows x (n, d), finite; `labels` (n,) chooses their block where there are classes.

        Raises:
            SpecMismatchError: The feature map is another one.
            DataError: A value is not finite, or the sums could overflow; nothing was added.
            ConfigError: The sketch has classes and no labels were given.
        """
        if features.spec.fingerprint != self.spec.fingerprint:
            raise SpecMismatchError.of("update", self.spec.fingerprint, features.spec.fingerprint)
        if not np.isfinite(x).all():
            raise DataError(
                "rows hold values that are not finite; set them apart before sketching"
            )
        _check_room(self.count + len(x))
        if self.spec.classes == 1:
            self.total += features.sum(x)
        else:
            if labels is None:
                raise ConfigError(
                    f"the sketch has {self.spec.classes} classes; give the rows' labels"
                )
            for k in np.unique(labels):
                self.total[k * features.width : (k + 1) * features.width] += features.sum(
                    x[labels == k]
                )
        self.count += len(x)

    def merge(self, other: "Sketch") -> "Sketch":
        """A new sketch of the rows of both.

        Raises:
            SpecMismatchError: The operators differ; both fingerprints are shown.
            DataError: The sums could overflow.
        """
        if self.spec.fingerprint != other.spec.fingerprint:
            raise SpecMismatchError.of("merge", self.spec.fingerprint, other.spec.fingerprint)
        _check_room(self.count + other.count)
        return Sketch(self.spec, self.total + other.total, self.count + other.count)

    __add__ = merge

    def copy(self) -> "Sketch":
        """An independent copy."""
        return Sketch(self.spec, self.total.copy(), self.count)

    def mean(self) -> NDArray[np.float64]:
        """Mean features, then relative counts of cells if any, float64; of no rows, zeros."""
        mean = self.total / max(self.count, 1)
        mean[: 2 * self.spec.m if self.spec.middle else None] /= ONE
        return mean

    def to_bytes(self) -> bytes:
        """The sketch as a file's bytes, for engines that move partial sums."""
        from streamsketch.storage.files import pack

        return pack(
            "sketch", {"total": self.total}, {"spec": self.spec.to_dict(), "count": self.count}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sketch":
        """The sketch that `to_bytes` wrote.

        Raises:
            DamagedFileError: The bytes are not a sketch's.
        """
        from streamsketch.features.spec import Spec
        from streamsketch.storage.files import parsing, unpack

        arrays, body = unpack(data, "sketch")
        with parsing("the sketch"):
            return cls.checked(Spec.from_dict(body["spec"]), arrays["total"], body["count"])

    @classmethod
    def checked(cls, spec: "Spec", total: NDArray[Any], count: int) -> "Sketch":
        """The sketch of values that were read: of a shape, type and range that rows can make.

        Raises:
            ValueError: They are not.
        """
        from streamsketch.storage.files import vector, whole

        whole({"count": count}, "count", 0, MOST_ROWS)
        fourier = spec.map == "fourier"
        least = spec.classes * 2 * spec.m if fourier else None
        plain = least if not spec.middle else None
        total = vector({"total": total}, "total", np.int64, plain)
        if least is not None and len(total) < least:
            raise ValueError(f"total has {len(total)} numbers, fewer than the {least} of its spec")
        # compared as floats: the absolute value of -2^63 is no int64
        if fourier and len(total) and np.abs(total.astype(np.float64)).max() > count * float(ONE):
            raise ValueError(f"total holds sums that {count} rows cannot make")
        return cls(spec, total, count)

    def __repr__(self) -> str:
        # no sum and no count: a repr ends in logs
        return f"Sketch(law={self.spec.law}, m={self.spec.m}, fingerprint={self.spec.fingerprint})"


def _check_room(count: int) -> None:
    if count > MOST_ROWS:
        raise DataError(
            f"a sketch holds at most {MOST_ROWS} rows, as sums of more could overflow; release it, and "
            "begin a new one"
        )
