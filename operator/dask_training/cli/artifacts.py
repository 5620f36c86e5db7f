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

from dask_training.api import ExitCode
from dask_training.cli.completion import RUN
from dask_training.cli.watch.summary import place_of
from dask_training.cli.watch.text import displayable, plural, size

if TYPE_CHECKING:
    from dask_training.artifacts import ArtifactStore, Manifest, RunSummary

ROOT = Path("artifacts")
_RUN_HELP = "RUN is a run's folder or URL, JOB/RUN below ./artifacts, or JOB for its latest run there."
_CODES = f"Exit codes: 0 done, 2 there is no such run or file, {ExitCode.ARTIFACT_STORE} the store or its files failed."


class NoSuchRunError(click.ClickException):
    """What was named is no run; the message says what there is."""

    exit_code = ExitCode.USAGE


@click.group()
def artifacts() -> None:
    """List, fetch and verify what runs have kept.

    \b
      dask-training artifacts ls                     all runs below ./artifacts
      dask-training artifacts ls flights             the runs of the job flights
      dask-training artifacts get flights results    the latest one's files
      dask-training artifacts verify s3://bucket/runs/flights/20260102-030405-ab12

    Stores behind a URL are reached with the usual variables, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
    """


@artifacts.command(epilog=_CODES)
@click.argument("place", type=RUN, default="", metavar="[PATH_OR_URL]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def ls(place: str, *, as_json: bool) -> None:
    """List runs, or the files of one run.

    PATH_OR_URL is a folder or URL with runs below it (./artifacts by default), a run's own, or JOB or JOB/RUN below
    ./artifacts.
    """
    with _open(place) as store:
        runs = store.runs()
        if runs == [""]:
            _list_files(store, store.manifest(""), as_json=as_json)
        else:
            _list_runs(store, place, as_json=as_json)


@artifacts.command(epilog=_CODES)
@click.argument("run", type=RUN)
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@click.argument("files", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def get(run: str, target: Path, files: tuple[str, ...], *, as_json: bool) -> None:
    """Copy a run's files into the folder TARGET, each verified first.

    FILES are names or patterns such as 'logs/*'; all files by default.

    \b
      dask-training artifacts get flights results
      dask-training artifacts get flights . model.joblib '*.png'
    """
    with _open(run) as store:
        prefix = _only_run(store, run)
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
def verify(run: str, *, as_json: bool) -> int:
    """Read all files of a run, and say which are not what its manifest says."""
    with _open(run) as store:
        prefix = _only_run(store, run)
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


def _open(place: str) -> ArtifactStore:
    """The store that *place* means, a run or a folder of runs; raises NoSuchRunError for what does not exist."""
    from dask_training.artifacts import ArtifactStore  # noqa: PLC0415 - takes a while; --help need not wait

    if "://" in place:
        return ArtifactStore.from_url(place)
    # First what `run` has made: beside ./artifacts there may well be a folder with the job's name and sources.
    for path in (ROOT / place, Path(place).expanduser()):
        if path.is_dir() and (place or path == ROOT):
            return ArtifactStore.from_url(str(path))
    if not place:
        raise NoSuchRunError(f"there is no folder {ROOT} here: 'dask-training run' makes it; or name another place")
    names = sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir()) if ROOT.is_dir() else []
    near = difflib.get_close_matches(place.partition("/")[0], names, n=1)
    there = f"; did you mean {near[0]}?" if near else f"; jobs with runs: {', '.join(names)}" if names else ""
    raise NoSuchRunError(f"there is neither a run {place} below {ROOT} nor a folder {place}{there}")


def _only_run(store: ArtifactStore, place: str) -> str:
    """The run at, or the latest one below, the store's address."""
    runs = store.runs()
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise NoSuchRunError(f"{place} has no complete run: a run is complete when its manifest.json is there")
    if len({run.rpartition("/")[0] for run in runs}) > 1:
        raise NoSuchRunError(f"{place} has runs of several jobs: name one of them, such as {place}/{runs[-1]}")
    return store.summaries()[-1].run


def _list_runs(store: ArtifactStore, place: str, *, as_json: bool) -> None:
    summaries = store.summaries()
    if as_json:
        click.echo(json.dumps({"url": store.url, "runs": [_run_json(run) for run in summaries]}))
        return
    if not summaries:
        click.echo(f"{place or ROOT} has no complete run")
        return
    above = f"{place.rstrip('/')}/" if place else ""  # so that a line's first word can be given to the other commands
    rows = [("RUN", "KEPT", "RESULT", "FILES", "SIZE")]
    for run in summaries:
        kept = f"{run.stored_at.astimezone():%Y-%m-%d %H:%M}" if run.stored_at else "?"
        result = f"unreadable: {run.problem}" if run.problem else run.verdict or "?"
        rows.append((f"{above}{run.run}", kept, result, f"{run.files:,}", size(run.bytes)))
    _table(rows, right=(3, 4))


def _run_json(run: RunSummary) -> dict[str, object]:
    stored_at = run.stored_at.isoformat() if run.stored_at else None
    known = {"run": run.run, "url": run.url, "files": run.files, "bytes": run.bytes, "storedAt": stored_at}
    return known | {"verdict": run.verdict, "problem": run.problem}


def _list_files(store: ArtifactStore, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        files = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in manifest.files]
        click.echo(json.dumps({"url": store.url, "storedAt": manifest.stored_at.isoformat(), "files": files}))
        return
    _table([(size(entry.size), displayable(entry.path, colour=False)) for entry in manifest.files], right=(0,))


def _table(rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


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
