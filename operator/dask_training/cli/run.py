"""`dask-training run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_training.api import ExitCode, Phase, Reason
from dask_training.cli.completion import JOB_FILE, job_names
from dask_training.cli.failures import BROKEN_PIPE, explain, explain_unexpected
from dask_training.cli.jobfiles import read_job_file, show_problems
from dask_training.cli.prices import PRICES
from dask_training.errors import DaskTrainingError
from dask_training.runner.events import Finished, to_json

if TYPE_CHECKING:
    from dask_training.costs import Prices
    from dask_training.model import JobFile, TrainingJob

_REASONS = {
    int(ExitCode.ARTIFACT_STORE): Reason.ARTIFACT_STORE_FAILED,
    int(ExitCode.PACKAGES): Reason.PACKAGES_FAILED,
    int(ExitCode.WORKERS_LOST): Reason.WORKERS_UNAVAILABLE,
    int(ExitCode.INTERNAL_ERROR): Reason.INTERNAL_ERROR,
}
_EPILOG = """\
\b
Exit codes: the script's own, or
    0  it ran to its end                 69  workers or scheduler were lost
    2  wrong usage, or no such file      70  a fault of dask-training
   65  the job file is not right         74  artifacts could not be stored
  124  a deadline has passed             78  packages could not be installed
  130  stopped by Ctrl-C                143  stopped by SIGTERM
  128 + N  the script was killed by signal N, such as 137 by SIGKILL

Without a terminal, standard output has what the script prints there and nothing else; what happens goes to
standard error, each line with its time.
"""


@click.command(epilog=_EPILOG)
@click.argument("file", type=JOB_FILE, metavar="FILE")
@click.argument("args", nargs=-1)
@click.option("--name", metavar="JOB", shell_complete=job_names, help="Which job, if the file holds several.")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="N", help="In place of spec.workers.replicas.")
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder of modules to import, in place of the ConfigMap of spec.code.",
)
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("artifacts"),
    metavar="DIR",
    show_default=True,
    help="Where runs are kept, as DIR/JOB/RUN.",
)
@click.option(
    "--dashboard-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="For the Dask dashboard; any free one by default.",
)
@click.option("--no-dashboard", is_flag=True, help="Without the Dask dashboard.")
@click.option(
    "--prices",
    type=PRICES,
    metavar="FILE",
    help="YAML with what an hour costs: currency, cpuHour, memoryGiBHour, gpuHour.",
)
@click.option("--json", "as_json", is_flag=True, help="One event per line of standard output; 'finished' last.")
@click.option("--quiet", "-q", is_flag=True, help="Only the last line, and what went wrong.")
@click.option("--verbose", is_flag=True, help="Show the traceback if dask-training itself fails.")
def run(  # noqa: PLR0913 - one for each option
    file: str,
    *,
    args: tuple[str, ...],
    name: str | None,
    workers: int | None,
    code: Path | None,
    artifacts: Path,
    dashboard_port: int | None,
    no_dashboard: bool,
    prices: Prices | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - read where errors are shown
) -> int:
    """Run a job on this machine.

    FILE is a job file, or - for standard input. Starts a Dask cluster of worker processes, runs the job's script with
    scikit-learn's parallel work spread over them, keeps what the script writes to $ARTIFACTS_DIR, and removes
    everything else again. ARGS after -- are given to the script, in place of spec.runner.args.

    \b
      dask-training run job.yaml
      dask-training run job.yaml --workers 4 -- --trees 500
      dask-training run job.yaml --json | jq 'select(.type == "metrics")'
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    if no_dashboard and dashboard_port is not None:
        raise click.UsageError("--dashboard-port and --no-dashboard exclude each other")
    request = _Request(
        file=file,
        name=name,
        as_json=as_json,
        quiet=quiet,
        artifacts=artifacts,
        dashboard_port=None if no_dashboard else dashboard_port or 0,
        code=code,
        workers=workers,
        args=args,
        prices=prices,
    )
    if not as_json:
        return _run(request)
    try:
        return _run(request)
    except (Exception, KeyboardInterrupt) as error:
        finished = _finished(error)
        click.echo(to_json(finished))
        if finished.reason is Reason.INTERNAL_ERROR:
            raise
        return finished.exit_code


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the command line asks for."""

    file: str
    name: str | None
    as_json: bool
    quiet: bool
    artifacts: Path
    dashboard_port: int | None
    code: Path | None
    workers: int | None
    args: tuple[str, ...]
    prices: Prices | None


def _run(request: _Request) -> int:
    from dask_training.model import JobFileError, load_job_file  # noqa: PLC0415 - takes a while; --help need not wait

    text, source = read_job_file(request.file)
    try:
        job_file = load_job_file(text, source=source)
        return _run_job(request, job_file, job_file.job(request.name))
    except JobFileError as error:
        if request.as_json:
            raise
        show_problems(error, text)
        return ExitCode.BAD_JOB_FILE


def _run_job(request: _Request, job_file: JobFile, job: TrainingJob) -> int:
    from dask_training.cli.interrupts import Interrupts  # noqa: PLC0415 - as above
    from dask_training.cli.watch.choose import display_for  # noqa: PLC0415 - as above
    from dask_training.cli.watch.feed import Feed  # noqa: PLC0415 - as above
    from dask_training.local import LocalOptions, StopSignal, run_locally  # noqa: PLC0415 - as above

    options = LocalOptions(
        artifacts_root=request.artifacts,
        dashboard_port=request.dashboard_port,
        code=request.code,
        workers=request.workers,
        args=request.args or None,
        prices=request.prices,
    )
    stop = StopSignal()
    display = display_for(job.name, as_json=request.as_json, quiet=request.quiet)
    with Feed(display, on_gone=stop.set) as feed, Interrupts(stop, feed) as interrupts:
        finished = run_locally(job_file, job, options, feed, stop)
    if feed.failure is not None:
        click.echo(explain_unexpected(feed.failure, verbose=False), err=True)
    if finished.reason is not Reason.INTERRUPTED:
        return finished.exit_code
    return BROKEN_PIPE if interrupts.exit_code is None else interrupts.exit_code


def _finished(error: BaseException) -> Finished:
    """The last event of a run that could not be started, or was cut short."""
    if isinstance(error, KeyboardInterrupt):
        reason, message, code = Reason.INTERRUPTED, "stopped at once", int(ExitCode.INTERRUPTED)
    elif isinstance(error, DaskTrainingError):
        message, code = explain(error)
        reason = _REASONS.get(code, Reason.VALIDATION_FAILED)
    elif isinstance(error, click.ClickException):
        reason, message, code = Reason.VALIDATION_FAILED, error.format_message(), error.exit_code
    else:
        message, code = f"{type(error).__name__}: {error}", int(ExitCode.INTERNAL_ERROR)
        reason = Reason.INTERNAL_ERROR
    return Finished(phase=Phase.FAILED, reason=reason, message=message, exit_code=code)
