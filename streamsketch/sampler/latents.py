"""From latent vectors to encoded rows as a model issues them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32
from streamsketch.errors import ConfigError, DataError
from streamsketch.latent import LatentModel

Codes = NDArray[np.int64]


def check_latents(model: LatentModel, label: Any) -> None:
    """Refuse a label that latents cannot be steered to.

    Raises:
        ConfigError: A label for a model that does not decode latents under labels.
    """
    if label is not None and model.classes == 1:
        raise ConfigError(
            f"label={label!r} cannot steer latents of a generator that is not conditional; sample "
            'with method="history" and target="data", or sketch with conditional = true'
        )


def rows_of(model: LatentModel, z: NDArray[Any], labels: Codes | None, seed: int) -> F32:
    """Encoded rows ``(n, d)`` of latents ``(n, p)``, finite; see `LatentModel.rows_of`.

    Raises:
        DataError: The model's output holds NaN or inf.
    """
    return finite(model.rows_of(np.ascontiguousarray(z, np.float32), labels, seed))


def finite(x: F32) -> F32:
    """The rows themselves.

    Raises:
        DataError: They hold NaN or inf.
    """
    if not np.isfinite(x).all():
        raise DataError("the generator draws NaN or inf; it is broken, train it again")
    return x
