"""Rows to where a command is told: a file, standard output, or a Kafka topic."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def write_rows(table: "pa.Table", output: str) -> None:
    """Write rows through the installed sinks; a file appears only when it is whole.

    Args:
        table: the rows.
        output: a file name that ends in a known suffix, "-" for JSON lines on standard output,
            or "kafka://host:port/topic".

    Raises:
        ConfigError: the name does not tell where to, or in which format.
        StoreError: it cannot be written.
    """
    from streamsketch.ingest.streams import plugin

    name, settings = _sink(output)
    sink = plugin("sinks", name)(settings)
    try:
        sink.write(table)
        sink.flush()
    finally:
        sink.close()


def _sink(output: str) -> tuple[str, dict[str, Any]]:
    if output == "-":
        return "stdout", {"format": "jsonl"}
    if not output.startswith("kafka://"):
        return "file", {"path": output}
    url = urlsplit(output)
    topic = url.path.strip("/")
    if not url.netloc or not topic:
        msg = f"Expected kafka://host:port/topic as output, got {output!r}"
        raise ConfigError(msg)
    return "kafka", {"bootstrap_servers": url.netloc, "topic": topic}
