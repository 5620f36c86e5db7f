"""Which display fits: by what the user asked for, and by where the output goes."""

from __future__ import annotations

import os
import stat
import sys
from typing import TextIO

from dask_training.cli.watch.feed import Display
from dask_training.cli.watch.lines import JsonLines, PlainLines, Quiet
from dask_training.cli.watch.state import NextCommands


def display_for(
    job: str, *, as_json: bool = False, quiet: bool = False, commands: NextCommands | None = None
) -> Display:
    """The display of the run of *job*, on this process's standard output and error.

    *commands* says what to do next with a run elsewhere.
    """
    if as_json:
        return JsonLines(sys.stdout)
    if quiet:
        return Quiet(job, sys.stderr, commands)
    if not _can_live(sys.stdout, sys.stderr):
        return PlainLines(job, sys.stdout, sys.stderr, commands)
    from rich.console import Console  # noqa: PLC0415 - the others do without

    from dask_training.cli.watch.live import LiveDisplay  # noqa: PLC0415 - as above

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    return LiveDisplay(job, console, out=None if sys.stdout.isatty() else sys.stdout, commands=commands)


def _can_live(out: TextIO, err: TextIO) -> bool:
    """Living lines need a terminal to themselves: what reads our output through a pipe may write there too."""
    if not err.isatty() or os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return False
    return out.isatty() or not _is_pipe(out)


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return True
    return not (stat.S_ISREG(mode) or stat.S_ISCHR(mode))
