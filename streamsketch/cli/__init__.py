"""The `streamsketch` command. Data goes to standard output, everything else to standard error.

Exit codes: 0 done, 1 a failure at work, 2 a wrong call or configuration, 130 interrupted.
"""

from streamsketch.cli.app import main

__all__ = ["main"]
