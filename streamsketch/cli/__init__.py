"""The `streamsketch` command. Data goes to standard output, everything else to standard error.

Exit codes: 0 done, 1 a failure at work, 2 a wrong call or configuration, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: what the `streamsketch` script calls.

    Args:
        arguments: The call without the program's name; the process's own by default.
    """
    for name in ("stdout", "stderr"):  # closed by the caller: what is written there is lost
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))
    try:
        from streamsketch.cli.app import main as run  # a second, in which one may press Ctrl-C

        run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        raise SystemExit(130) from None
