"""What a network is made of and how it is trained: tables of `fit` and of pipeline.toml, without torch."""

from dataclasses import dataclass

from streamsketch.errors import ConfigError

__all__ = ["NetworkConfig", "TrainingConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is made of.

    Attributes:
        name: A name in `NETWORKS`.
        latent: Dimension p of the latent vectors.
        width: Units per layer (`conv`: channels at full resolution).
        depth: Layers or blocks.
        bounded: Whether numbers are bounded by tanh.
        components: Components of a decoded mixture that the network corrects (`init = "mixture"`
            of `fit` sets them; see `generator.mixture`); 0 for none.
    """

    name: str = "residual"
    latent: int = 32
    width: int = 256
    depth: int = 3
    bounded: bool = True
    components: int = 0

    def __post_init__(self) -> None:
        for field in ("latent", "width", "depth"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} = {getattr(self, field)} must be at least 1")
        if self.components < 0:
            raise ConfigError(f"components = {self.components} must be 0 or more")


@dataclass(frozen=True)
class TrainingConfig:
    """Run options of training; they may change from run to run.

    Attributes:
        batch: Rows per step.
        subset: Frequencies per step, of those trained on.
        rate: Adam's learning rate, at its height.
        average: Decay of the weights' moving average; 0 keeps the last weights.
        heldout: Share of the frequencies that is never trained on.
        anneal: Share of the training over which the fast frequencies come in; 0: from the start.
        restarts: Candidates that are tried on the first part of the budget.
        trial: Share of the budget that the trials take, all together.
        validations: How often the held-out distance is taken.
        compile: Compile the network (GPU).
    """

    batch: int = 500
    subset: int = 1024
    rate: float = 2e-3
    average: float = 0.995
    heldout: float = 0.05
    anneal: float = 0.0
    restarts: int = 1
    trial: float = 0.25
    validations: int = 20
    compile: bool = False
