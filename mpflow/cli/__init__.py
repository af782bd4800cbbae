"""The command line: `mpflow run`, `mpflow demo`, `mpflow doctor`."""

from mpflow.cli.commands import main as main

__all__ = ["main"]
