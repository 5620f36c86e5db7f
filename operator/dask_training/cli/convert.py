"""`dask-training convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_training.api import KIND, ExitCode
from dask_training.cli.completion import JOB_FILE
from dask_training.cli.jobfiles import read_job_file, show_problems

if TYPE_CHECKING:
    from dask_training.cli.dask_jobs import Converted
    from dask_training.model.documents import Document

_PASSED_ON = ("ConfigMap", "Secret")


@click.command(
    epilog=f"Exit codes: 0 written, {ExitCode.BAD_JOB_FILE} the file holds something else, or what is written needs"
    " mending first, 2 a file can't be read or written."
)
@click.argument("file", type=JOB_FILE)
@click.option("-o", "--output", type=JOB_FILE, metavar="FILE", help="Write to this file, which must not be there yet.")
def convert(file: str, *, output: str | None) -> int:
    """Turn a DaskJob of dask-kubernetes into a job file.

    FILE is YAML with one or several documents, or - for standard input. A DaskJob becomes a job that runs its code; a
    DaskCluster, with its DaskAutoscaler if the file has one, becomes a Session: a cluster for a client. ConfigMaps and
    Secrets are passed on. What can't be carried over is listed on standard error, field by field, with what to do.

    \b
      dask-training convert daskjob.yaml -o job.yaml
      kubectl get daskjob simple-job -o yaml | dask-training convert -
    """
    from dask_training.model import JobFileError, load_job_file  # noqa: PLC0415 - --help need not wait
    from dask_training.model.documents import read_documents  # noqa: PLC0415 - as above

    text, source = read_job_file(file)
    try:
        converted, others = _converted(read_documents(text, source=source), source)
    except JobFileError as error:
        show_problems(error, text)
        return ExitCode.BAD_JOB_FILE
    for job in converted:
        for note in job.notes:
            click.echo(f"{source}: {job.kind} {job.name}: not carried over: {note}", err=True)
    written = _text(converted, others, source)
    _write(written, output)
    try:
        load_job_file(written, source=output or "what is written")
    except JobFileError as error:
        show_problems(error, written)
        click.echo("Mend this in what was written: the original has it so.", err=True)
        return ExitCode.BAD_JOB_FILE
    return ExitCode.OK


def _converted(documents: list[Document], source: str) -> tuple[list[Converted], list[Any]]:
    from dask_training.cli import dask_jobs  # noqa: PLC0415 - --help need not wait
    from dask_training.model import JobFileError, Problem  # noqa: PLC0415 - as above

    problems, jobs, others, autoscalers, found = [], [], [], {}, []
    for document in documents:
        body = document.value if isinstance(document.value, dict) else {}
        kind, version = str(body.get("kind") or "nothing"), str(body.get("apiVersion") or "")
        known = version == dask_jobs.PEER
        if known and kind in ("DaskJob", "DaskCluster"):
            jobs.append(body)
        elif known and kind == "DaskAutoscaler":
            spec = body.get("spec") or {}
            autoscalers[str(spec.get("cluster"))] = spec
        elif version == "v1" and kind in _PASSED_ON:
            others.append(body)
        else:
            message = _not_known(kind, version, known=known)
            problems.append(Problem("kind", message, document.lines.get(("kind",), document.lines.get((), 1)), source))
    if not jobs and not problems:
        text = f"holds neither a DaskJob nor a DaskCluster ({dask_jobs.PEER})"
        problems.append(Problem("", text, None, source))
    if problems:
        raise JobFileError(problems)
    found = [dask_jobs.convert(body, autoscalers) for body in jobs]
    return found, others


def _not_known(kind: str, version: str, *, known: bool) -> str:
    if kind == KIND:
        return f"is a {KIND} already: there is nothing to convert"
    if known and kind == "DaskWorkerGroup":
        return "DaskWorkerGroup: a job has one group of workers; take it out of the file, and write a job for each kind"
    text = (
        "can't be converted: take it out of the file. DaskJob, DaskCluster and DaskAutoscaler of kubernetes.dask.org/v1"
    )
    return f"{kind} ({version or 'no apiVersion'}) {text} can be, and ConfigMaps and Secrets are passed on"


def _text(jobs: list[Converted], others: list[Any], source: str) -> str:
    import yaml  # noqa: PLC0415 - --help need not wait

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as such."""

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    documents = []
    for job in jobs:
        head = [f"# From {job.kind} {job.name} ({source}), by dask-training convert."]
        if "image" in job.body["spec"]:
            head.append("# The image must hold dask-training[runtime]: see docs/own-image.md.")
        head += [f"# Not carried over: {_in_a_line(str(note))}" for note in job.notes]
        body = yaml.dump(job.body, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True)
        documents.append("\n".join([*head, body]))
    documents += [yaml.dump(body, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True) for body in others]
    return "---\n".join(documents)


def _in_a_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _write(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.UsageError(f"{output} can't be written: {error.strerror}") from error
