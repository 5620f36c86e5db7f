"""`dask-training artifacts`: what runs have kept."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from dask_training.api import ExitCode, Phase
from dask_training.cli.artifact_places import ROOT, NoSuchRunError, Where, open_place, where_options
from dask_training.cli.completion import RUN
from dask_training.cli.tables import table
from dask_training.cli.watch.summary import place_of
from dask_training.cli.watch.text import displayable, plain, plural, size

if TYPE_CHECKING:
    from dask_training.artifacts import ArtifactStore, Manifest, RunSummary
    from dask_training.cli.artifact_places import Opened

_RUN_HELP = """\
RUN is a run's folder or URL, JOB/RUN below ./artifacts, or JOB for its latest run there. What is not there is looked
for on the cluster: JOB for its last attempt, JOB/ATTEMPT for another one. With --cluster, --namespace or --context
it is looked for there alone."""
_CODES = (
    f"Exit codes: 0 done, 2 there is no such run or file, {ExitCode.ARTIFACT_STORE} the store or its files failed, "
    f"{ExitCode.UNREACHABLE} the cluster can't be reached, {ExitCode.FORBIDDEN} you may not do that there."
)


@click.group()
def artifacts() -> None:
    """List, fetch and verify what runs have kept.

    \b
      dask-training artifacts ls                     all runs below ./artifacts
      dask-training artifacts ls flights             the runs of the job flights
      dask-training artifacts get flights results    the latest one's files
      dask-training artifacts get flights results --cluster  from the cluster
      dask-training artifacts verify s3://bucket/runs/flights/20260102-030405-ab12

    Stores behind a URL are reached with the usual variables, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
    """


@artifacts.command(epilog=_CODES)
@click.argument("place", type=RUN, default="", metavar="[PATH_OR_URL]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@where_options
def ls(place: str, *, as_json: bool, where: Where) -> None:
    """List runs, or the files of one run.

    PATH_OR_URL is a folder or URL with runs below it (./artifacts by default), a run's own, or JOB or JOB/RUN below
    ./artifacts. What is not there is looked for on the cluster: JOB, or JOB/ATTEMPT. With --cluster, --namespace or
    --context it is looked for there alone; without PATH_OR_URL that lists the jobs there that have kept something.
    """
    if not place and where.on_cluster:
        _list_jobs(where, as_json=as_json)
        return
    with open_place(place, where) as opened:
        store = opened.store
        runs = store.runs(opened.prefix)
        if runs == [opened.prefix] or (opened.on_cluster and len(runs) == 1):
            _list_files(store, runs[0], store.manifest(runs[0]), as_json=as_json)
        else:
            _list_runs(opened, place, as_json=as_json)


@artifacts.command(epilog=_CODES)
@click.argument("run", type=RUN)
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@where_options
def get(run: str, target: Path, files: tuple[str, ...], *, as_json: bool, where: Where) -> None:
    """Copy a run's files into the folder TARGET, each verified first.

    FILES are names or patterns such as 'logs/*'; all files by default.

    \b
      dask-training artifacts get flights results
      dask-training artifacts get flights . model.joblib '*.png'
    """
    with open_place(run, where) as opened:
        store, prefix = opened.store, only_run(opened, run)
        if files:
            paths = store.get(prefix, target, only=_chosen(store.manifest(prefix), files))
        else:
            paths = store.get(prefix, target)
    if as_json:
        click.echo(json.dumps({"url": store.url_of(prefix), "files": [str(path) for path in paths]}))
    else:
        total = sum(path.stat().st_size for path in paths)
        click.echo(f"{plural(len(paths), 'file')} ({size(total)}) of {_shown_url(store, prefix)} in {target}")


@artifacts.command(epilog=_CODES)
@click.argument("run", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@where_options
def verify(run: str, *, as_json: bool, where: Where) -> int:
    """Read all files of a run, and say which are not what its manifest says."""
    with open_place(run, where) as opened:
        store, prefix = opened.store, only_run(opened, run)
        problems = store.verify(prefix)
        manifest = store.manifest(prefix)
    if as_json:
        result = {"url": store.url_of(prefix), "verified": not problems, "files": len(manifest.files)}
        click.echo(json.dumps(result | {"problems": problems}))
    elif problems:
        for problem in problems:
            click.echo(problem, err=True)
        said = f"{len(problems):,} of {plural(len(manifest.files), 'file')}"
        click.echo(f"{_shown_url(store, prefix)}: {said} differ from the manifest", err=True)
    else:
        files = f"{plural(len(manifest.files), 'file')}, {size(manifest.total_bytes)}"
        click.echo(f"{_shown_url(store, prefix)}: {files}: all are as the manifest says")
    return ExitCode.ARTIFACT_STORE if problems else ExitCode.OK


for _command in (get, verify):
    _command.help = f"{inspect.cleandoc(_command.help or '')}\n\n{_RUN_HELP}"


def only_run(opened: Opened, place: str) -> str:
    """The run at, or the latest one below, the place's address."""
    store = opened.store
    runs = store.runs(opened.prefix)
    if opened.on_cluster and runs:
        return max(runs, key=lambda run: int(run.rpartition("/")[2]))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise NoSuchRunError(f"{place} has no complete run: a run is complete when its manifest.json is there")
    if len({run.rpartition("/")[0] for run in runs}) > 1:
        raise NoSuchRunError(f"{place} has runs of several jobs: name one of them, such as {place}/{runs[-1]}")
    return store.summaries()[-1].run


def _list_jobs(where: Where, *, as_json: bool) -> None:
    """The jobs on the cluster that have kept something, as their statuses say."""
    with where.client() as client:
        jobs = [job for job in client.list() if ((job.get("status") or {}).get("artifacts") or {}).get("url")]
        place = where.described(client)
    if as_json:
        kept = [{"job": job["metadata"]["name"], **job["status"]["artifacts"]} for job in jobs]
        click.echo(json.dumps({"jobs": kept}))
        return
    if not jobs:
        click.echo(f"no job in {place} has kept anything", err=True)
        return
    rows = [("JOB", "ATTEMPT", "RESULT", "FILES", "SIZE")]
    for job in jobs:
        status, kept = job["status"], job["status"]["artifacts"]
        result = str(status.get("phase") or "")
        result += f": {status['reason']}" if result == Phase.FAILED and status.get("reason") else ""
        counts = (f"{kept.get('files') or 0:,}", size(kept.get("bytes") or 0))
        rows.append((job["metadata"]["name"], str(status.get("attempt") or ""), plain(result), *counts))
    table(rows, right=(3, 4))


def _list_runs(opened: Opened, place: str, *, as_json: bool) -> None:
    store = opened.store
    summaries = store.summaries(opened.prefix)
    if as_json:
        click.echo(json.dumps({"url": store.url, "runs": [_run_json(run) for run in summaries]}))
        return
    if not summaries:
        click.echo(f"{place or ROOT} has no complete run")
        return
    if opened.on_cluster:  # what is given again is JOB/ATTEMPT
        summaries = [msgspec.structs.replace(each, run=each.run.rpartition("/")[2]) for each in summaries]
    above = f"{place.rstrip('/')}/" if place else ""  # so that a line's first word can be given to the other commands
    rows = [("RUN", "KEPT", "RESULT", "FILES", "SIZE")]
    for run in summaries:
        kept = f"{run.stored_at.astimezone():%Y-%m-%d %H:%M}" if run.stored_at else "?"
        result = f"unreadable: {run.problem}" if run.problem else run.verdict or "?"
        rows.append((f"{above}{run.run}", kept, result, f"{run.files:,}", size(run.bytes)))
    table(rows, right=(3, 4))


def _run_json(run: RunSummary) -> dict[str, object]:
    stored_at = run.stored_at.isoformat() if run.stored_at else None
    known = {"run": run.run, "url": run.url, "files": run.files, "bytes": run.bytes, "storedAt": stored_at}
    return known | {"verdict": run.verdict, "problem": run.problem}


def _list_files(store: ArtifactStore, run: str, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        files = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in manifest.files]
        click.echo(json.dumps({"url": store.url_of(run), "storedAt": manifest.stored_at.isoformat(), "files": files}))
        return
    table([(size(entry.size), displayable(entry.path, colour=False)) for entry in manifest.files], right=(0,))


def _chosen(manifest: Manifest, patterns: Sequence[str]) -> list[str]:
    """The paths that *patterns* name, in the manifest's order; raises NoSuchRunError for one that names none."""
    paths = [entry.path for entry in manifest.files]
    wanted: set[str] = set()
    for pattern in patterns:
        # An exact name first: it may hold the very characters that patterns are made of.
        matching = [path for path in paths if path == pattern] or fnmatch.filter(paths, pattern)
        if not matching:
            near = difflib.get_close_matches(pattern, paths, n=1)
            raise NoSuchRunError(f"the run has no file {pattern}{f'; did you mean {near[0]}?' if near else ''}")
        wanted.update(matching)
    return [path for path in paths if path in wanted]


def _shown_url(store: ArtifactStore, prefix: str) -> str:
    return place_of(store.url_of(prefix))
