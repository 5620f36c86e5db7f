"""`dask-training validate`."""

from __future__ import annotations

import json

import click

from dask_training.api import KIND, ExitCode
from dask_training.cli.completion import JOB_FILE
from dask_training.cli.jobfiles import read_job_file, show_problems
from dask_training.cli.watch.text import plural


@click.command(epilog=f"Exit codes: 0 all are valid, {ExitCode.BAD_JOB_FILE} a file is not, 2 a file can't be read.")
@click.argument("files", nargs=-1, required=True, type=JOB_FILE, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file: file, valid, jobs, problems.")
@click.option("--verbose", is_flag=True, help="Also say what a run on this machine can't do or leaves out.")
def validate(files: tuple[str, ...], *, as_json: bool, verbose: bool) -> int:
    """Check job files, and say everything that is wrong.

    FILE is a YAML file with one or several documents, or - for standard input. Nothing is started.

    \b
      dask-training validate job.yaml
      helm template . | dask-training validate -
    """
    codes = [_validate(name, as_json=as_json, verbose=verbose) for name in files]
    return max(codes)


def _validate(name: str, *, as_json: bool, verbose: bool) -> int:
    from dask_training.model import JobFileError, load_job_file  # noqa: PLC0415 - takes a while, --help need not wait

    text, source = read_job_file(name)
    try:
        job_file = load_job_file(text, source=source)
    except JobFileError as error:
        if as_json:
            problems = [
                {"path": problem.path, "message": problem.message, "line": problem.line} for problem in error.problems
            ]
            click.echo(json.dumps({"file": source, "valid": False, "jobs": [], "problems": problems}))
        else:
            show_problems(error, text)
            click.echo(f"{source}: {plural(len(error.problems), 'problem')}", err=True)
        return ExitCode.BAD_JOB_FILE
    if as_json:
        jobs = [{"name": job.name, "namespace": job.namespace, "mode": job.spec.mode} for job in job_file.jobs]
        click.echo(json.dumps({"file": source, "valid": True, "jobs": jobs, "problems": []}))
        return ExitCode.OK
    for job in job_file.jobs:
        click.echo(f"{source}: {KIND} {job.name} is valid")
        if verbose:
            for problem in job_file.check_local(job):
                click.echo(f"  to run on this machine: {problem}")
            for sentence in job_file.ignored_locally(job):
                click.echo(f"  on this machine: {sentence}")
    return ExitCode.OK
