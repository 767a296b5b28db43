"""From latent vectors to encoded rows, drawing what the generator draws after its network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError

Points = NDArray[np.float32]


def check_latents(generator: Any, label: Any) -> None:
    """Refuse what a choice of latents cannot serve.

    Raises:
        ConfigError: A learned latent mixture, or a label for a generator that is not told labels.
    """
    network = getattr(generator, "network", None)
    if getattr(getattr(network, "latent", None), "mixture", 0):
        raise ConfigError(
            "the generator's latent law is a learned mixture, not a standard Gaussian; "
            'sample with method="history" and target="data" or "generator".'
        )
    if label is not None and not getattr(network, "told", 0):
        raise ConfigError(
            f"label={label!r} cannot steer latents of a generator that is not told labels; sample "
            'with method="history" and target="data", or sketch with conditional = true.'
        )


def decode(generator: Any, z: NDArray[Any], seed: int, label: Any = None) -> Points:
    """Encoded rows of latent vectors, categories drawn as the generator draws them.

    Args:
        generator: The generator.
        z: ``(n, p)`` latent vectors.
        seed: Seed of what is drawn beyond the latents.
        label: Value of the label column, or None for labels in the stream's shares.

    Returns:
        ``(n, d)`` float32, finite.

    Raises:
        DataError: The generator's output holds NaN or inf.
    """
    import torch

    network = getattr(generator, "network", None)
    latent = torch.as_tensor(np.ascontiguousarray(z, np.float32))
    with torch.inference_mode():
        if network is None or not hasattr(network, "head"):
            rows = generator.decode_latent(latent)
        else:
            rng = torch.Generator().manual_seed(seed)
            latent = latent.to(network.device)
            labels = label_codes(generator, len(z), rng, label)
            noise = network.head.noise(len(z), rng, network.device)
            rows = network.head(network.raw(latent, labels), noise, labels)
    x: Points = rows.float().cpu().numpy()
    return finite(x)


def label_codes(generator: Any, n: int, rng: Any, label: Any) -> Any:
    """Label codes ``(n,)`` for a generator that is told labels, else None."""
    import torch

    network = generator.network
    if not network.told:
        return None
    if label is not None:
        code = generator.schema.label_classes.index(label)
        return torch.full((n,), code).to(network.device)
    shares = network.shares.cpu().clamp_min(0)
    return torch.multinomial(shares, n, replacement=True, generator=rng).to(network.device)


def finite(x: Points) -> Points:
    """The rows themselves.

    Raises:
        DataError: They hold NaN or inf.
    """
    if not np.isfinite(x).all():
        raise DataError("the generator draws NaN or inf; it is broken, train it again.")
    return x
