"""`dask-training logs`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from dask_training.api import Label, Mode, Role
from dask_training.cli.cluster import CODES, client_of, cluster_options, job_argument
from dask_training.cli.watch.lines import write
from dask_training.cli.watch.text import displayable, plain
from dask_training.errors import NotFoundError

if TYPE_CHECKING:
    from dask_training.client import JobHandle

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")
_EPILOG = f"{CODES} Ctrl-C while following leaves the job running."


@click.command(epilog=_EPILOG)
@job_argument
@click.option(
    "--role",
    type=click.Choice([Role.RUNNER.value, Role.SCHEDULER.value, Role.WORKER.value]),
    help="Whose log: by default the runner's, in mode Workers the workers', which have what the code prints.",
)
@click.option("--worker", type=click.IntRange(0), metavar="N", help="The log of worker N.")
@click.option("--all", "all_pods", is_flag=True, help="Of all pods, each line with its pod's name.")
@click.option("--follow", "-f", is_flag=True, help="Also the lines to come, until the job ends.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Of an earlier attempt; the last by default.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Begin with so many of each log's last lines.")
@click.option("--json", "as_json", is_flag=True, help="Each line as JSON: its pod and its text.")
@cluster_options
def logs(
    name: str,
    *,
    role: str | None,
    worker: int | None,
    all_pods: bool,
    follow: bool,
    attempt: int | None,
    tail: int | None,
    as_json: bool,
    namespace: str | None,
    context: str | None,
) -> None:
    """Show what a job's pods print, or have printed.

    While there are pods, their own logs; when they are gone, those that were stored with the artifacts.

    \b
      dask-training logs flights -f
      dask-training logs flights --all -f
      dask-training logs flights --worker 1 --attempt 2
    """
    if all_pods and (role or worker is not None):
        raise click.UsageError("--all goes without --role and --worker")
    if worker is not None and role not in {None, Role.WORKER}:
        raise click.UsageError("--worker is for --role worker")
    with client_of(namespace, context) as client:
        job = client.get(name)
        code = Role.WORKER if _mode(job) == Mode.WORKERS else Role.RUNNER
        wanted = Role.WORKER if worker is not None else Role(role or code)
        several = all_pods or (wanted is Role.WORKER and worker is None)
        printer = _Printer(prefixed=several, as_json=as_json)
        choose = _chooser(None if all_pods else wanted, worker)
        _show(job, choose, printer, follow=follow, attempt=attempt, tail=tail)


def _mode(job: JobHandle) -> str:
    return str((job.body.get("spec") or {}).get("mode") or Mode.BATCH)


def _show(
    job: JobHandle,
    choose: Callable[[str, str | None], bool],
    printer: _Printer,
    *,
    follow: bool,
    attempt: int | None,
    tail: int | None,
) -> None:
    from dask_training.client.joblogs import LogFollower  # noqa: PLC0415 - --help need not wait
    from dask_training.client.status_events import is_finished  # noqa: PLC0415 - as above

    latest = int((job.body.get("status") or {}).get("attempt") or 0)
    if attempt is not None and attempt > max(latest, 1):
        raise click.UsageError(f"{job.name} has had {latest} attempts, not {attempt}")

    def wanted(pod: dict[str, Any]) -> bool:
        labels = pod["metadata"]["labels"]
        return choose(str(labels.get(Label.ROLE)), labels.get(Label.INDEX))

    follower = LogFollower(job, wanted, printer.take, attempt=attempt, tail=tail)
    over = is_finished(job.body) or (attempt is not None and attempt < latest)
    if (follower.follow() if follow and not over else follower.read()) or printer.lines:
        return
    if (over or is_finished(job.body)) and _mode(job) == Mode.WORKERS:
        raise NotFoundError(f"the pods of {job.name} are gone, and their logs: in mode Workers nothing is stored")
    if over or is_finished(job.body):
        _show_stored(job, choose, printer, attempt or max(latest, 1), tail)
        return
    status = job.body.get("status") or {}
    message = plain(str(status.get("message") or "")).partition("\n")[0]
    click.echo(f"{job.name} has printed nothing yet ({job.phase}{f': {message}' if message else ''})", err=True)


def _show_stored(
    job: JobHandle, choose: Callable[[str, str | None], bool], printer: _Printer, attempt: int, tail: int | None
) -> None:
    from dask_training.client.joblogs import stored_log, stored_names  # noqa: PLC0415 - as above
    from dask_training.client.reader import open_store, run_prefix  # noqa: PLC0415 - as above

    click.echo("the pods are gone; reading the stored logs …", err=True)
    with open_store(job.connection, job.body, lambda text: click.echo(text, err=True)) as store:
        run = run_prefix(job.body, attempt)
        names = [name for name in stored_names(store, run) if choose(*_role_and_number(name))]
        if not names:
            raise NotFoundError(f"no such log was stored; there are: {', '.join(stored_names(store, run)) or 'none'}")
        for name in names:
            lines = stored_log(store, run, name)
            for line in lines if tail is None else _last(lines, tail):
                printer.take(name, line)


def _chooser(role: Role | None, worker: int | None) -> Callable[[str, str | None], bool]:
    def choose(of_role: str, number: str | None) -> bool:
        return (role is None or of_role == role) and (worker is None or number == str(worker))

    return choose


def _role_and_number(name: str) -> tuple[str, str | None]:
    role, dash, number = name.partition("-")
    return role, number if dash else None


def _last(lines: Any, count: int) -> list[str]:
    from collections import deque  # noqa: PLC0415 - only here

    return list(deque(lines, maxlen=count))


class _Printer:
    """Writes lines to standard output, each with its pod's name in its pod's colour if several are shown."""

    def __init__(self, *, prefixed: bool, as_json: bool) -> None:
        self.lines = 0
        self._prefixed = prefixed
        self._as_json = as_json
        self._colours: dict[str, str] = {}
        self._next = itertools.cycle(_COLOURS)
        self._terminal = sys.stdout.isatty()
        self._width = 9  # of `scheduler`

    def take(self, pod: str, line: str) -> None:
        """Write *line*."""
        self.lines += 1
        if self._as_json:
            write(sys.stdout, json.dumps({"pod": pod, "line": line}) + "\n")
        else:
            # To a file or a pipe goes what was printed, to the byte; a terminal must not obey it.
            text = displayable(line) if self._terminal else line
            write(sys.stdout, f"{self._prefix(pod)}{text}\n")
        sys.stdout.flush()

    def _prefix(self, pod: str) -> str:
        if not self._prefixed:
            return ""
        self._width = max(self._width, len(pod))
        prefix = f"{pod:<{self._width}} | "
        if not self._terminal:
            return prefix
        colour = self._colours.get(pod) or self._colours.setdefault(pod, next(self._next))
        return click.style(prefix, fg=colour)
