# %% [markdown]
# # One sketch, many models
#
# A snapshot is not made for one model. From the same few kilobytes you read clusters, a Gaussian mixture, principal
# components, quantiles of every column, and a generator. The rows are gone by then.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamsketch import Schema, Sketcher, fit
from streamsketch.decode import PCA, GaussianMixture, KMeans, Marginals

data = next(
    p / "data"
    for p in [Path.cwd(), *Path.cwd().parents]
    if (p / "data" / "nycflights13.parquet").exists()
)
flights = pq.read_table(
    data / "nycflights13.parquet", columns=["hour", "distance", "air_time"]
).drop_null()
flights = flights.filter(pc.less(flights["distance"], 3000)).slice(0, 60_000)
flights.num_rows

# %% [markdown]
# The law `multiscale_axis` spends a quarter of the frequencies along single columns, so that quantiles can be read
# off.

# %%
schema = Schema.from_dict(
    {
        "hour": {"kind": "numeric", "low": 0, "high": 24},
        "distance": {"kind": "numeric", "low": 0, "high": 3000},
        "air_time": {"kind": "numeric", "low": 0, "high": 450},
    }
)
sketcher = Sketcher(schema, frequencies=600, law="multiscale_axis", seed=1, cells=False)
sketcher.learn_many(flights)
snapshot = sketcher.release()
print(f"{snapshot.count:,.0f} rows in {len(snapshot.to_bytes()):,} bytes")

# %% [markdown]
# ## Clusters and a mixture
#
# The estimators look like those of scikit-learn, but `fit` takes a snapshot.

# %%
clusters = KMeans(4, random_state=0).fit(snapshot)
clusters.centers_table().to_pandas().round(1)

# %%
mixture = GaussianMixture(4, covariance_type="full", n_init=1, random_state=0).fit(snapshot)
drawn = mixture.sample_table(3000)
mixture.weights_.round(3)

# %% [markdown]
# ## Principal components

# %%
components = PCA(2).fit(snapshot)
components.explained_variance_ratio_.round(3), components.components_.round(2)

# %% [markdown]
# ## Quantiles with error bands

# %%
marginals = Marginals().fit(snapshot)
for name in ("hour", "distance", "air_time"):
    median, low, high = marginals[name].quantile(0.5)
    print(
        f"{name}: median {median:.1f}, between {low:.1f} and {high:.1f}; exact {np.median(flights[name]):.1f}"
    )

# %% [markdown]
# ## A generator
#
# This schema's sketch holds no counts of cells, so `fit` trains a network on the Fourier part.

# %%
generator = fit(snapshot, seconds=8, seed=0)
rows = generator.sample(3000, seed=1)

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharex=True, sharey=True)
sample = flights.take(np.random.default_rng(0).choice(flights.num_rows, 3000, replace=False))
for ax, points, title in zip(
    axes, (sample, drawn, rows), ("the stream", "Gaussian mixture", "generator"), strict=True
):
    ax.scatter(points["distance"], points["hour"], s=3, alpha=0.3, c="#2a6f97", linewidths=0)
    ax.set(title=title, xlabel="distance, miles", xlim=(0, 3000), ylim=(0, 24))
centres = clusters.centers_table()
axes[0].scatter(
    centres["distance"], centres["hour"], marker="x", c="#d95f02", label="centres, from the sketch"
)
axes[0].legend(frameon=False, loc="lower right")
axes[0].set_ylabel("hour")
plt.show()

# %% [markdown]
# ## Where to go on
#
# - [Models without a network](../../decode/): all estimators, their accuracy and cost.
# - [Generators](../../generators/): networks, objectives, and what tables use instead.
