"""`streamsketch savepoint` and `rewind`: named copies of a stream's sums and positions."""

from typing import TYPE_CHECKING, Annotated

import typer

from streamsketch.cli.stream import PipelineFile

if TYPE_CHECKING:
    from streamsketch.ingest.parts import State


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(savepoint)
    app.command()(rewind)


def savepoint(
    pipeline: PipelineFile,
    name: Annotated[
        str | None, typer.Argument(help="Name of the copy; without one, the copies are listed.")
    ] = None,
) -> None:
    """Copy sums, positions and releases under a name, also while the pipeline runs.

    With a privacy mechanism it is refused: going back would spend the budget twice.
    """
    from streamsketch.cli.console import say
    from streamsketch.ingest.savepoints import named, save_as

    state = _state(pipeline)
    if name is None:
        for one in named(state):
            typer.echo(one)
        return
    folder = save_as(state, name)
    say(f"{folder}: as last saved; go back to it with: streamsketch rewind {pipeline} {name}")


def rewind(
    pipeline: PipelineFile,
    name: Annotated[str, typer.Argument(help="Name of the savepoint.")],
) -> None:
    """Go back to a savepoint: the next run reads on from there. The pipeline must stand still.

    Released snapshots stay. What there was is kept as the savepoint before-rewind.
    """
    import os

    from streamsketch.cli.console import say
    from streamsketch.ingest.savepoints import rewind as put_back
    from streamsketch.run.status import refuse_running
    from streamsketch.storage.locks import hold

    state = _state(pipeline)
    lock = hold(state.folder / "run.lock", f"the state folder {state.folder}")
    try:
        refuse_running(state.folder)
        parts = put_back(state, name)
    finally:
        os.close(lock)
    say(f"{len(parts)} parts are as in {name}; what there was is the savepoint before-rewind")


def _state(pipeline: str) -> "State":
    from streamsketch.ingest.parts import State
    from streamsketch.ingest.savepoints import refuse_private
    from streamsketch.run.config import load

    loaded = load(pipeline)
    refuse_private(loaded.privacy.mechanism)
    store = loaded.store()
    return State(store.state_dir, loaded.features(), store.records)
