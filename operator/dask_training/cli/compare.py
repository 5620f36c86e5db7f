"""`dask-training compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dask_training.api import ExitCode
from dask_training.cli.artifact_places import Where, where_options
from dask_training.cli.completion import RUN
from dask_training.cli.tables import table
from dask_training.cli.watch.text import plain

if TYPE_CHECKING:
    from dask_training.cli.figures import Figure
    from dask_training.cli.run_records import RunRecords

_CODES = (
    f"Exit codes: 0 done, 2 there is no such run, or it has no summary, {ExitCode.ARTIFACT_STORE} the store or its "
    f"files failed, {ExitCode.UNREACHABLE} the cluster can't be reached, {ExitCode.FORBIDDEN} you may not do that."
)


@click.command(epilog=_CODES)
@click.argument("runs", nargs=-1, type=RUN, required=True, metavar="RUN RUN...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with the whole summaries.")
@where_options
def compare(runs: tuple[str, ...], *, as_json: bool, where: Where) -> None:
    """Show runs side by side: results, times, data, cost.

    RUN is a run's folder or URL, JOB/RUN below ./artifacts, or JOB for its latest run there. What is not there is
    looked for on the cluster: JOB for its last attempt, JOB/ATTEMPT for another one. With --cluster, --namespace or
    --context it is looked for there alone. Of packages and of the job's spec only what differs is shown.

    \b
      dask-training compare flights/20260102-030405-ab12 flights
      dask-training compare flights/1 flights/2 --cluster
      dask-training compare s3://bucket/runs/ml/flights/0f9e/1 flights --json
    """
    if len(runs) < 2:
        raise click.UsageError(f"name two runs at least: dask-training compare {runs[0]} RUN")
    from dask_training.cli.figures import figures, notes  # noqa: PLC0415 - --help need not wait
    from dask_training.cli.run_records import read_run  # noqa: PLC0415 - as above

    found = [read_run(run, where) for run in runs]
    rows = figures(found)
    if as_json:
        click.echo(json.dumps(_document(found, rows)))
        return
    _show(found, rows)
    for note in notes(found):
        click.echo(f"note: {plain(note)}", err=True)


def _document(runs: Sequence[RunRecords], rows: Sequence[Figure]) -> dict[str, Any]:
    differences: dict[str, dict[str, Any]] = {}
    for figure in rows:
        if figure.differs:
            differences.setdefault(figure.section.lower(), {})[figure.name] = list(figure.values)
    described = [{"run": run.name, "url": run.url, "summary": json.loads(run.summary.to_json())} for run in runs]
    return {"runs": described, "differences": differences}


def _show(runs: Sequence[RunRecords], rows: Sequence[Figure]) -> None:
    two = len(runs) == 2
    lines = [["", "", *(_name(run) for run in runs), *(["CHANGE"] if two else [])]]
    section = ""
    for figure in rows:
        head = "" if figure.section == section else figure.section
        section = figure.section
        lines.append([head, figure.name, *figure.cells(), *([figure.change()] if two else [])])
    table(lines, right=(2 + len(runs),) if two else ())


def _name(run: RunRecords) -> str:
    """What tells it from the others: the end of a long place."""
    return plain(run.name if len(run.name) <= 40 else f"…{run.name[-39:]}")
