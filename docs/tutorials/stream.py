# %% [markdown]
# # Follow a stream over Kafka
#
# You consume a topic, release snapshots that forget the past slowly, and let one generator follow the stream as it
# changes. Sums and offsets are saved in one atomic write, so each message counts exactly once.
#
# The broker here is the project's own test broker: it speaks the Kafka protocol and starts in a moment. With a real
# cluster only `bootstrap_servers` changes. Run this page from a clone.

# %%
import json
import logging
import sys
import tempfile
import threading
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

root = next(p for p in [Path.cwd(), *Path.cwd().parents] if (p / "testing" / "broker").exists())
sys.path.insert(0, str(root))

from kafka import KafkaAdminClient, KafkaProducer

from streamsketch import Snapshot, fit
from streamsketch.drift.snapshots import SnapshotDrift
from streamsketch.run.config import load
from streamsketch.run.consume import run_ingest
from streamsketch.run.worker import make_source
from testing.broker.process import BrokerProcess

logging.getLogger("kafka").setLevel(logging.CRITICAL)
folder = Path(tempfile.mkdtemp())
broker = BrokerProcess(folder / "broker")

# %% [markdown]
# ## 1. A pipeline
#
# One file names the source, the columns and their limits, the sketch and the store. `memory = "decayed:0.5"` halves
# the weight of the past at every release.

# %%
text = f"""
[source]
type = "kafka"
bootstrap_servers = "{broker.bootstrap}"
topic = "readings"
max_records = 250      # rows of one fetch, at most
until = "end"          # stop at the end of the topic; leave it out to go on for ever

[schema.hour]
kind = "numeric"
low = 0
high = 24

[schema.celsius]
kind = "numeric"
low = 0
high = 40

[sketch]
frequencies = 256
cells = true           # count cells too: `fit` then takes a second
memory = "decayed:0.5"

[snapshots]
rows = 1500
save_seconds = 0.2

[store]
path = "store"
"""
(folder / "pipeline.toml").write_text(text)
pipeline = load(folder / "pipeline.toml")

# %% [markdown]
# ## 2. A stream that changes
#
# A thermometer over the day. After half of the messages someone turns the heating up.


# %%
def readings(n: int, warmer: float, seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    hour = rng.uniform(0, 24, n)
    celsius = 15 + warmer + 5 * np.sin((hour - 9) * np.pi / 12) + rng.normal(size=n)
    return [
        {"hour": h, "celsius": c} for h, c in zip(hour.tolist(), celsius.tolist(), strict=True)
    ]


admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
admin.create_topics({"readings": {"num_partitions": 1, "replication_factor": 1}})
admin.close()
messages = readings(4500, 0, seed=0) + readings(4500, 8, seed=1)
producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=50)
for message in messages:
    producer.send("readings", json.dumps(message).encode())
producer.flush()
producer.close()

# %% [markdown]
# ## 3. Consume
#
# `streamsketch consume pipeline.toml` does this from the command line. Kill it and start it again: it goes on behind
# the last row that its sums hold.

# %%
done = run_ingest(pipeline, make_source(pipeline), threading.Event())
broker.close()
store = pipeline.store()
snapshots = [Snapshot.from_bytes(store.snapshots.read(name)) for name in store.snapshots.names()]
print(
    done.rows, "rows;", len(snapshots), "snapshots, weights", [round(s.count) for s in snapshots]
)

# %% [markdown]
# ## 4. One generator that follows
#
# The sketch counts cells, so `fit` takes about a second, and less when it starts from the generator before.
# `streamsketch train --watch` does this for every new snapshot.

# %%
drift = SnapshotDrift()
generator, drawn = None, []
for snapshot in snapshots:
    found = drift.update(snapshot)
    if found is not None:
        print(f"{snapshot.count:,.0f} rows: changed = {found.drift} (p = {found.p_value:.2g})")
    generator = fit(snapshot, seconds=3, seed=0, start=generator)
    drawn.append(generator.sample(400, seed=1))

# %%
figure, axes = plt.subplots(
    1, len(drawn), figsize=(2.2 * len(drawn), 2.8), sharex=True, sharey=True, squeeze=False
)
end, before = 0, 0.0
for ax, rows, snapshot in zip(axes[0], drawn, snapshots, strict=True):
    begin, end = end, end + round(snapshot.count - before / 2)  # half of the weight before is left
    before = snapshot.count
    recent = messages[begin:end:4]
    ax.scatter([m["hour"] for m in recent], [m["celsius"] for m in recent], s=3, c="#bbbbbb")
    ax.scatter(rows["hour"], rows["celsius"], s=3, c="#d95f02", alpha=0.5)
    ax.set(title=f"after {end:,} rows", xlim=(0, 24), ylim=(5, 35), xlabel="hour")
axes[0, 0].set_ylabel("celsius")
plt.show()

# %% [markdown]
# Grey: the newest messages. Orange: rows of the generator at that moment. The old curve fades by half at each snapshot.
#
# ## Where to go on
#
# - [Connect Kafka with TLS](../../howto/kafka-tls/).
# - [Exactly once](../../concepts/exactly-once/): why no message is lost or counted twice.
