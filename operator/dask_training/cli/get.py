"""`dask-training get`."""

from __future__ import annotations

import json
import time

import click

from dask_training.cli.cluster import CODES, Commands, client_of, cluster_options, job_argument
from dask_training.errors import ForbiddenError


@click.command(epilog=CODES)
@job_argument
@click.option("--json", "as_json", is_flag=True, help="The job as Kubernetes has it, as JSON.")
@click.option("--yaml", "as_yaml", is_flag=True, help="The same as YAML.")
@cluster_options
def get(name: str, *, as_json: bool, as_yaml: bool, namespace: str | None, context: str | None) -> None:
    """Say how a job on a cluster is, and what to do.

    What goes on, what failed, its pods and the latest events.
    """
    from dask_training.cli.describe import describe, operator_missing  # noqa: PLC0415 - --help need not wait

    if as_json and as_yaml:
        raise click.UsageError("--json and --yaml exclude each other")
    with client_of(namespace, context) as client:
        job = client.get(name)
        if as_json:
            click.echo(json.dumps(job.body))
            return
        if as_yaml:
            import yaml  # noqa: PLC0415 - only here

            click.echo(yaml.safe_dump(job.body, sort_keys=False, allow_unicode=True), nl=False)
            return
        notes = []
        try:
            pods = job.pods()
        except ForbiddenError as error:  # the job's own status says the most, and was read
            pods = []
            notes.append(f"its pods can't be shown: {error}")
        try:
            events = job.events()
        except ForbiddenError as error:
            events = []
            notes.append(f"its events can't be shown: {error}")
        now = time.time()
        notes.append(operator_missing(job.body, now))
        commands = Commands(name, namespace, context)
        click.echo("\n".join(describe(job.body, pods, events, commands, now=now, server=client.connection.context)))
        for note in notes:
            if note:
                click.echo(f"note: {note}", err=True)
