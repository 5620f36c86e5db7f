"""`dask-training submit`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dask_training.api import ExitCode
from dask_training.cli.cluster import Commands, client_of, cluster_options, where
from dask_training.cli.completion import SUBMITTED
from dask_training.cli.jobfiles import show_problems

if TYPE_CHECKING:
    from dask_training.client import JobHandle, TrainingClient
    from dask_training.client.submitting import Bundle

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EPILOG = f"""\
\b
Exit codes: 0 done; with --follow or --wait the job's own; or
    2  wrong usage, or the job exists   {ExitCode.UNREACHABLE}  the cluster can't be reached
   65  the job is not right             {ExitCode.FORBIDDEN}  you may not do that
  124  a deadline has passed           130  Ctrl-C: the job runs on
"""
_OPTIONS = (
    click.option("--name", metavar="JOB", help="The job's name; of a job file with several: which one."),
    click.option("--workers", type=click.IntRange(0, 1024), metavar="N", help="How many workers; 2 by default."),
    click.option("--cpu", metavar="CPUS", help="Of each worker, such as 1 or 500m."),
    click.option("--memory", metavar="SIZE", help="Of each worker, such as 2Gi: request and limit."),
    click.option("--packages", multiple=True, metavar="PACKAGE", help="For pip, such as lightgbm==4.6.0; repeatable."),
    click.option("--env", multiple=True, metavar="NAME=VALUE", help="For every process; repeatable."),
    click.option("--image", metavar="IMAGE", help="In place of the operator's runtime image."),
    click.option(
        "--code",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="A folder of modules to import, sent along as a ConfigMap (1 MiB at most).",
    ),
    click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="FIELD=VALUE",
        help="A field, such as spec.backoffLimit=2; repeatable.",
    ),
)


def _job_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(epilog=_EPILOG)
@click.argument("file", type=SUBMITTED, metavar="FILE|SCRIPT.py")
@click.argument("args", nargs=-1)
@_job_options
@click.option("--follow", "-f", is_flag=True, help="Show what happens, and what the code prints, to the end.")
@click.option("--wait", is_flag=True, help="As --follow, without what the code prints.")
@click.option("--replace", is_flag=True, help="Delete a finished job of that name first; its artifacts stay.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, as YAML, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="One event per line if followed, else one JSON document.")
@click.option("--quiet", "-q", is_flag=True, help="Of a followed job only the last line, and what went wrong.")
@click.option("--verbose", is_flag=True, help="Show the traceback if dask-training itself fails.")
@cluster_options
def submit(  # noqa: PLR0913 - one for each option
    file: str,
    *,
    args: tuple[str, ...],
    name: str | None,
    workers: int | None,
    cpu: str | None,
    memory: str | None,
    packages: tuple[str, ...],
    env: tuple[str, ...],
    image: str | None,
    code: Path | None,
    sets: tuple[str, ...],
    follow: bool,
    wait: bool,
    replace: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,  # noqa: ARG001 - read where errors are shown
    namespace: str | None,
    context: str | None,
) -> int:
    """Send a job to a cluster.

    FILE is a job file (all its documents are applied) or - for standard input; a SCRIPT.py is sent with what the
    options say, and with the modules beside it that it imports. Options also override what a job file says. ARGS after
    -- are given to the script. Nothing is made unless the cluster accepts everything.

    \b
      dask-training submit job.yaml --follow
      dask-training submit train.py --workers 4 --memory 4Gi -- --trees 500
      dask-training submit train.py --code src --packages lightgbm --dry-run
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    if quiet and not (follow or wait):
        raise click.UsageError("--quiet is for --follow and --wait")
    from dask_training.cli.jobs_from import Overrides, read_bundle  # noqa: PLC0415 - takes a while; --help need not wait
    from dask_training.model import JobFileError  # noqa: PLC0415 - as above

    overrides = Overrides(
        name=name,
        workers=workers,
        cpu=cpu,
        memory=memory,
        packages=packages,
        env=env,
        image=image,
        code=code,
        sets=sets,
        args=args,
    )
    text, bundle = "", None
    try:
        text, bundle = read_bundle(file, overrides)
        if dry_run:
            _print(bundle, namespace)
            return ExitCode.OK
        request = _Request(
            follow=follow,
            wait=wait,
            replace=replace,
            as_json=as_json,
            quiet=quiet,
            namespace=namespace,
            context=context,
        )
        return _submit(bundle, request)
    except JobFileError as error:
        show_problems(error, text or getattr(error, "text", ""))
        return ExitCode.BAD_JOB_FILE


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is to be done with the job."""

    follow: bool
    wait: bool
    replace: bool
    as_json: bool
    quiet: bool
    namespace: str | None
    context: str | None


def _submit(bundle: Bundle, request: _Request) -> int:
    from dask_training.cli.follow import follow  # noqa: PLC0415 - takes a while; --help need not wait

    following = request.follow or request.wait
    if following and len(bundle.jobs) > 1:
        names = ", ".join(str(job["metadata"]["name"]) for job in bundle.jobs)
        raise click.UsageError(f"only one job can be followed: choose with --name ({names})")
    with client_of(request.namespace, request.context) as client:
        jobs = client.submit_bundle(bundle, replace=request.replace)
        if following:
            (job,) = jobs
            if not request.as_json and not request.quiet:
                click.echo(f"{job.name} submitted ({where(client)})", err=True)
            commands = Commands(job.name, request.namespace, request.context)
            return follow(job, commands, output=request.follow, as_json=request.as_json, quiet=request.quiet)
        _say(client, jobs, request)
    return ExitCode.OK


def _say(client: TrainingClient, jobs: list[JobHandle], request: _Request) -> None:
    if request.as_json:
        bodies = [job.body for job in jobs]
        click.echo(json.dumps(bodies[0] if len(bodies) == 1 else {"items": bodies}))
        return
    for job in jobs:
        click.echo(f"{job.name} submitted ({where(client)})")
        commands = Commands(job.name, request.namespace, request.context)
        click.echo(f"  follow it:  {commands.command('logs -f')}", err=True)
        click.echo(f"  its state:  {commands.command('get')}", err=True)


def _print(bundle: Bundle, namespace: str | None) -> None:
    import yaml  # noqa: PLC0415 - only here

    class Dumper(yaml.SafeDumper):
        """Scripts as text blocks."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    bodies = bundle.bodies(namespace or "")
    for body in bodies:
        if namespace and "namespace" not in body["metadata"]:
            body["metadata"] = body["metadata"] | {"namespace": namespace}
        if not body["metadata"].get("namespace"):
            body["metadata"].pop("namespace", None)
    yaml.dump_all(bodies, sys.stdout, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
