"""The command `dask-training`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with this process's arguments, and exit with its code."""
    from dask_training.cli.app import run_command_line  # noqa: PLC0415 - importing the package costs nothing

    sys.exit(run_command_line())
