"""Shows a job on a cluster as `run` shows one on this machine, to its end or until Ctrl-C."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click

from dask_training.cli.cluster import Commands
from dask_training.cli.failures import BROKEN_PIPE, explain_unexpected
from dask_training.cli.interrupts import Interrupts
from dask_training.cli.watch.choose import display_for
from dask_training.cli.watch.feed import Feed
from dask_training.errors import NotFoundError

if TYPE_CHECKING:
    from dask_training.client import JobHandle


class Stop(threading.Event):
    """Set when the user wants to leave; `signal_number` says by which signal."""

    signal_number = 0


def follow(job: JobHandle, commands: Commands, *, output: bool, as_json: bool, quiet: bool) -> int:
    """Show *job* until it ends, and return its exit code; 130 after a Ctrl-C, which leaves it running."""
    stop = Stop()
    display = display_for(job.name, as_json=as_json, quiet=quiet, commands=commands)
    says = f"{job.name} runs on; come back with: {commands.command('logs -f')}"
    with Feed(display, on_gone=stop.set) as feed, Interrupts(stop, feed, says, again="") as interrupts:
        try:
            finished = job.follow(feed, stop, output=output)
        except NotFoundError as error:
            raise NotFoundError(f"{error} while it was being followed") from error
    if feed.failure is not None:
        click.echo(explain_unexpected(feed.failure, verbose=False), err=True)
    if finished is not None:
        return finished.exit_code
    return BROKEN_PIPE if interrupts.exit_code is None else interrupts.exit_code
