"""Models decoded from a released snapshot, without a network and without the rows.

>>> from streamsketch.decode import KMeans
>>> KMeans(3)
KMeans(n_clusters=3, n_init='auto', atoms='gaussian', random_state=0)
"""

from typing import TYPE_CHECKING

from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch.decode.components import ICA as ICA
    from streamsketch.decode.components import PCA as PCA
    from streamsketch.decode.kmeans import KMeans as KMeans
    from streamsketch.decode.marginals import Density as Density
    from streamsketch.decode.marginals import Marginals as Marginals
    from streamsketch.decode.marginals import Shares as Shares
    from streamsketch.decode.mixture import GaussianMixture as GaussianMixture
    from streamsketch.decode.stable import StableMixture as StableMixture
    from streamsketch.decode.target import Target as Target

__all__ = [
    "Density",
    "GaussianMixture",
    "KMeans",
    "Marginals",
    "PCA",
    "Shares",
    "StableMixture",
    "Target",
    "ICA",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Density": "marginals",
        "GaussianMixture": "mixture",
        "ICA": "components",
        "KMeans": "kmeans",
        "Marginals": "marginals",
        "PCA": "components",
        "Shares": "marginals",
        "StableMixture": "stable",
        "Target": "target",
    },
)
