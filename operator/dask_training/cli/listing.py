"""`dask-training list`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from dask_training.cli.cluster import CODES, client_of, cluster_options, where
from dask_training.cli.tables import table
from dask_training.cli.watch.text import age, plain


@click.command("list", epilog=CODES)
@click.option("--all-namespaces", "-A", is_flag=True, help="The jobs of all namespaces.")
@click.option("--wide", is_flag=True, help="Also reason, artifacts and dashboard.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with the jobs as Kubernetes has them.")
@cluster_options
def list_(*, all_namespaces: bool, wide: bool, as_json: bool, namespace: str | None, context: str | None) -> None:
    """List the jobs on a cluster.

    \b
      dask-training list
      dask-training list -A --wide
      dask-training list --json | jq '.items[].status.metrics'
    """
    with client_of(namespace, context) as client:
        jobs = client.list(all_namespaces=all_namespaces)
        if as_json:
            click.echo(json.dumps({"items": jobs}))
        elif not jobs:
            place = "there is no job in any namespace" if all_namespaces else f"there is no job in {where(client)}"
            click.echo(place, err=True)
        else:
            _show(jobs, all_namespaces=all_namespaces, wide=wide)


def _show(jobs: list[dict[str, Any]], *, all_namespaces: bool, wide: bool) -> None:
    head = ["NAME", "PHASE", "WORKERS", "PROGRESS", "ATTEMPT", "AGE"]
    head += ["REASON", "ARTIFACTS", "DASHBOARD"] if wide else []
    rows = [["NAMESPACE", *head] if all_namespaces else head]
    now = time.time()
    for job in jobs:
        status = job.get("status") or {}
        row = [
            str(job["metadata"]["name"]),
            str(status.get("phase") or ""),
            str((status.get("workers") or {}).get("summary") or ""),
            str((status.get("progress") or {}).get("summary") or ""),
            str(status.get("attempt") or ""),
            age(job["metadata"].get("creationTimestamp"), now),
        ]
        if wide:
            artifacts = (status.get("artifacts") or {}).get("url")
            row += [str(value or "") for value in (status.get("reason"), artifacts, status.get("dashboardURL"))]
        # What pods report ends in a status: nothing that a terminal obeys may come out here.
        row = [plain(cell) for cell in row]
        rows.append([str(job["metadata"]["namespace"]), *row] if all_namespaces else row)
    table(rows, phases=2 if all_namespaces else 1)
