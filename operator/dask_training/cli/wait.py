"""`dask-training wait`."""

from __future__ import annotations

import json

import click

from dask_training.api import ExitCode, Phase
from dask_training.cli.cluster import DURATION, client_of, cluster_options, job_argument
from dask_training.cli.watch.text import plain

_PHASES = {
    "complete": frozenset({Phase.SUCCEEDED, Phase.FAILED}),
    "running": frozenset({Phase.RUNNING, Phase.FINALIZING, Phase.SUCCEEDED}),
    "suspended": frozenset({Phase.SUSPENDED}),
}
_EPILOG = f"""\
\b
Exit codes: 0 it is so, or
    2  there is no such job (any more)   {ExitCode.UNREACHABLE}  the cluster can't be reached
  124  it is not so after --timeout      {ExitCode.FORBIDDEN}  you may not do that
  the job's own, if it failed
"""


@click.command(epilog=_EPILOG)
@job_argument
@click.option(
    "--for",
    "what",
    type=click.Choice([*_PHASES, "deleted"]),
    default="complete",
    show_default=True,
    help="What to wait for.",
)
@click.option("--timeout", type=DURATION, metavar="TIME", help="Such as 90s, 10m, 1h; for ever by default.")
@click.option("--json", "as_json", is_flag=True, help="The job's status at the end, as one JSON document.")
@cluster_options
def wait(
    name: str, *, what: str, timeout: float | None, as_json: bool, namespace: str | None, context: str | None
) -> int:
    """Wait until a job has ended, or has come so far.

    \b
      dask-training wait flights && dask-training artifacts get flights results
      dask-training wait flights --for running --timeout 5m
    """
    from dask_training.client.status_events import exit_code_of, is_finished  # noqa: PLC0415 - --help need not wait

    with client_of(namespace, context) as client:
        job = client.get(name)
        if what == "deleted":
            job.wait_deleted(timeout)
            click.echo(f"{name} is gone", err=True)
            return ExitCode.OK
        job.wait(_PHASES[what], timeout)
        status = job.body.get("status") or {}
        if as_json:
            click.echo(json.dumps(status))
        else:
            reason = f" ({status['reason']})" if job.phase is Phase.FAILED and status.get("reason") else ""
            message = f": {plain(str(status.get('message') or ''))}" if job.phase is Phase.FAILED else ""
            click.echo(f"{name}: {job.phase}{reason}{message}", err=True)
        if job.phase is Phase.SUCCEEDED or not is_finished(job.body):
            return ExitCode.OK
        return exit_code_of(job.body)
