"""Records of a benchmark as a table."""

from typing import Any

from rich.console import Console
from rich.table import Table


def show(title: str, records: list[dict[str, Any]]) -> None:
    """Print records, one row each; a column for every name that any of them has."""
    table = Table(title=title)
    names = list(dict.fromkeys(name for record in records for name in record))
    for name in names:
        table.add_column(name, justify="right")
    for record in records:
        values = [record.get(name, "") for name in names]
        table.add_row(*[f"{v:.4g}" if isinstance(v, float) else str(v) for v in values])
    Console(width=130).print(table)
