# %% [markdown]
# # A private stream with a budget
#
# You release snapshots of a stream, one after another, under one privacy budget. Whoever sees all of them, and every
# generator trained on them, learns almost nothing about any single row.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq

from streamsketch import Schema, Sketcher, fit
from streamsketch.privacy import explain, noise_multiplier

data = next(
    p / "data"
    for p in [Path.cwd(), *Path.cwd().parents]
    if (p / "data" / "adult.parquet").exists()
)
columns = ["age", "education_num", "hours_per_week", "sex", "income"]
table = pq.read_table(data / "adult.parquet", columns=columns)

# %% [markdown]
# ## 1. Limits that do not come from the rows
#
# Limits are published with every snapshot, so they must not be read off private rows. These come from general
# knowledge: nobody works more than 99 hours in this questionnaire.

# %%
schema = Schema.from_dict(
    {
        "age": {"kind": "numeric", "type": "int32", "low": 17, "high": 90, "resolution": 1},
        "education_num": {
            "kind": "numeric",
            "type": "int32",
            "low": 1,
            "high": 16,
            "resolution": 1,
        },
        "hours_per_week": {
            "kind": "numeric",
            "type": "int32",
            "low": 1,
            "high": 99,
            "resolution": 1,
        },
        "sex": {"kind": "categorical", "type": "string", "values": ["Female", "Male"]},
        "income": {"kind": "label", "type": "string", "values": ["<=50K", ">50K"]},
    }
)

# %% [markdown]
# ## 2. A budget for all releases
#
# The budget covers every release together. `releases` is how many you plan. Correlated noise (the `toeplitz`
# mechanism) makes ten releases cost far less than ten separate ones: the noise of each is 1.8 times that of a single
# release, where splitting the budget needs 3.2 times.

# %%
print(f"{noise_multiplier('toeplitz', releases=10):.2f} instead of {np.sqrt(10):.2f}")
sketcher = Sketcher(
    schema,
    frequencies=128,
    seed=7,
    mechanism="toeplitz",
    privacy={"epsilon": 1.0, "delta": 1e-6, "releases": 10},
)

# %%
snapshots = []
part = table.num_rows // 10
for k in range(10):
    sketcher.learn_many(table.slice(k * part, part))
    snapshots.append(sketcher.release())
print(explain(snapshots[-1]))

# %% [markdown]
# The count is private too: it carries noise like everything else.

# %%
[round(s.count) for s in snapshots]

# %% [markdown]
# The eleventh release is refused. Learning goes on; nothing more is published.

# %%
try:
    sketcher.release()
except Exception as refusal:
    print(type(refusal).__name__, refusal)

# %% [markdown]
# ## 3. Generators cost nothing more
#
# Whatever is computed from a released snapshot is covered by its promise. The noise is the same for the first release
# and the last, so it matters less the more rows there are.

# %%
real = table.to_pandas()
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharex=True, sharey=True)
bins = np.arange(16.5, 91, 3)
for ax, snapshot in zip(axes, (snapshots[0], snapshots[4], snapshots[9]), strict=True):
    drawn = fit(snapshot, seconds=10).sample(5000, seed=1).to_pandas()
    for income, colour in (("<=50K", "#1b9e77"), (">50K", "#d95f02")):
        ax.hist(real[real.income == income].age, bins, weights=np.full((real.income == income).sum(), 1 / len(real)),
                histtype="step", color=colour)  # fmt: skip
        ax.hist(drawn[drawn.income == income].age, bins, weights=np.full((drawn.income == income).sum(), 1 / 5000),
                alpha=0.4, color=colour, label=income)  # fmt: skip
    ax.set(title=f"after {snapshot.count:,.0f} rows", xlabel="age")
axes[0].set_ylabel("share of rows")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Lines are the real rows, filled bars are synthetic. Training on a release spends no budget.
#
# ## Where to go on
#
# - [Releases and privacy](../../concepts/releases/): what is promised and what is not.
# - [Choose limits](../../howto/limits/): limits that do not give rows away.
