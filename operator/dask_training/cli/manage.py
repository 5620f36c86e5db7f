"""`dask-training delete`, `suspend`, `resume` and `scale`."""

from __future__ import annotations

import click

from dask_training.api import ExitCode
from dask_training.cli.cluster import CODES, client_of, cluster_options, job_argument
from dask_training.cli.completion import cluster_job_names
from dask_training.cli.failures import explain
from dask_training.cli.tables import phase_colour
from dask_training.errors import KubernetesError


@click.command(epilog=CODES)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=cluster_job_names)
@click.option("--wait", is_flag=True, help="Until the pods are gone, too.")
@cluster_options
def delete(names: tuple[str, ...], *, wait: bool, namespace: str | None, context: str | None) -> int:
    """Delete jobs and all that they have running.

    Their artifacts stay.

    \b
      dask-training delete flights
      dask-training delete flights trains --wait
    """
    code = int(ExitCode.OK)
    with client_of(namespace, context) as client:
        for name in names:
            try:
                client.get(name).delete(wait=wait)
            except KubernetesError as error:
                text, code = explain(error)  # the others are deleted all the same
                click.echo(text, err=True)
            else:
                click.echo(f"{name} deleted")
    return code


@click.command(epilog=CODES)
@job_argument
@cluster_options
def suspend(name: str, *, namespace: str | None, context: str | None) -> None:
    """Stop a job until it is resumed.

    What it has running is removed. Resumed, it starts again from its beginning, with a new attempt.
    """
    with client_of(namespace, context) as client:
        job = client.get(name)
        _refuse_finished(name, str(job.phase))
        job.suspend()
    click.echo(f"{name} is being suspended; go on with: dask-training resume {name}")


@click.command(epilog=CODES)
@job_argument
@cluster_options
def resume(name: str, *, namespace: str | None, context: str | None) -> None:
    """Let a suspended job start again."""
    with client_of(namespace, context) as client:
        job = client.get(name)
        _refuse_finished(name, str(job.phase))
        if not job.body["spec"].get("suspend"):
            click.echo(f"{name} is not suspended ({job.phase})")
            return
        job.resume()
    click.echo(f"{name} resumed")


@click.command(epilog=CODES)
@job_argument
@click.argument("workers", type=click.IntRange(0, 1024), metavar="N")
@cluster_options
def scale(name: str, workers: int, *, namespace: str | None, context: str | None) -> None:
    """Give a job N workers.

    Also while it runs: those that go hand over their results first.
    """
    with client_of(namespace, context) as client:
        job = client.get(name)
        _refuse_finished(name, str(job.phase))
        before = job.body["spec"]["workers"]["replicas"]
        job.scale(workers)
    click.echo(f"{name} has {workers} workers now (before: {before})" if workers != before else f"{name} has {workers}")


def _refuse_finished(name: str, phase: str) -> None:
    if phase in {"Succeeded", "Failed"}:
        shown = click.style(phase, fg=phase_colour(phase))
        raise click.UsageError(f"{name} has ended ({shown}): nothing of it runs any more")
