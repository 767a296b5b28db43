# %% [markdown]
# # From a file to synthetic rows
#
# You read a table once, keep its sketch, and draw new rows from a generator that saw nothing but the sketch.
# The table is the US census extract *Adult*: numbers, categories, and a label (`income`).

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import evaluate

data = next(
    p / "data"
    for p in [Path.cwd(), *Path.cwd().parents]
    if (p / "data" / "adult.parquet").exists()
)
columns = [
    "age",
    "workclass",
    "education",
    "marital_status",
    "relationship",
    "sex",
    "hours_per_week",
    "income",
    "split",
]
table = pq.read_table(data / "adult.parquet", columns=columns)
in_train = pc.equal(table["split"].cast("string"), "train")
train = table.filter(in_train).drop_columns("split")
held_out = table.filter(pc.invert(in_train)).drop_columns("split")
train.num_rows, held_out.num_rows

# %% [markdown]
# ## 1. A schema
#
# The schema says what each column may hold. `Schema.propose` reads it off the data, which is fine here because the
# data are public. For private data, write the limits down yourself.

# %%
schema = Schema.propose(train)
for column in schema.columns:
    print(column.name, column.kind)

# %% [markdown]
# ## 2. A sketch
#
# Each batch is read once and dropped. Only the sums stay.

# %%
sketcher = Sketcher(schema, frequencies=512, seed=7)
for batch in train.to_batches(max_chunksize=4096):
    sketcher.learn_many(batch)
snapshot = sketcher.release()
print(f"{snapshot.count:,.0f} rows in a snapshot of {len(snapshot.to_bytes()):,} bytes")

# %% [markdown]
# ## 3. A generator and new rows
#
# `fit` needs the snapshot and nothing else. `where` draws rows that meet a condition, on any columns.

# %%
generator = fit(snapshot, seconds=20)
synthetic = generator.sample(5000, seed=1)
synthetic.slice(0, 5).to_pandas()

# %%
young = generator.sample(1000, seed=2, where={"age": (20, 30), "sex": "Female"})
young.slice(0, 5).to_pandas()

# %% [markdown]
# ## 4. How good are they?
#
# Every score stands between two anchors: real rows with each column shuffled on its own (the floor), and other real
# rows (the ceiling). `C2ST` is the AUC of a classifier that tells synthetic rows from real ones; 0.5 means it cannot.

# %%
scores = evaluate(synthetic, held_out, label="income", rows=2500)
scores.table()

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for ax, rows, title in zip(
    axes, (held_out, synthetic), ("real, never read", "synthetic"), strict=True
):
    for income, colour in (("<=50K", "#1b9e77"), (">50K", "#d95f02")):
        chosen = rows.filter(pc.equal(rows["income"].cast("string"), income)).slice(0, 1200)
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, chosen.num_rows)
        ax.scatter(
            chosen["age"].to_numpy() + noise,
            chosen["hours_per_week"],
            s=4,
            alpha=0.4,
            c=colour,
            label=income,
        )
    ax.set(title=title, xlabel="age", xlim=(15, 92))
axes[0].set_ylabel("hours per week")
axes[1].legend(markerscale=3, frameon=False)
plt.show()

# %% [markdown]
# ## Where to go on
#
# - [A private stream with a budget](../private/): the same with differential privacy.
# - [One sketch, many models](../models/): clusters, mixtures and quantiles from the same snapshot.
# - The command does all of this for a file of yours: see [Start](../../).
