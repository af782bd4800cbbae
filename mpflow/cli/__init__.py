"""The command line: `mpflow run`, `mpflow graph`, `mpflow demo`, `mpflow doctor`."""

from mpflow.cli.commands import main as main

__all__ = ["main"]
