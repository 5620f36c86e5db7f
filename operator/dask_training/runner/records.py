"""The files that a run keeps beside the user's own: metrics, environment, logs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dask_training.runner import run_summary
from dask_training.runner.events import MetricValue
from dask_training.runner.script_api import METRICS_FILE

ENVIRONMENT_FILE = "environment.json"
LOGS_FOLDER = "logs"
RESERVED = ("manifest.json", ENVIRONMENT_FILE, run_summary.FILE, "performance_report.html", "profile.html", LOGS_FOLDER)


def make_way(artifacts: Path) -> list[str]:
    """Renames what the user's code named like a file of ours to `<name>.user<suffix>`; returns sentences about it."""
    notes = []
    for name in RESERVED:
        taken = artifacts / name
        if taken.exists() or taken.is_symlink():
            kept = taken.with_name(f"{taken.stem}.user{taken.suffix}")
            taken.rename(kept)
            notes.append(f"the artifact {name} is kept as {kept.name}: the name is the run's own")
    return notes


def write_metrics(artifacts: Path, reported: Mapping[str, MetricValue]) -> tuple[dict[str, MetricValue], list[str]]:
    """Writes `metrics.json`: what the code reported, on top of what it wrote there itself.

    Returns the metrics (of the file, only plain values) and sentences about what could not be used.
    """
    path = artifacts / METRICS_FILE
    own: dict[str, Any] = {}
    notes = []
    if path.is_file() and not path.is_symlink():
        try:
            parsed = json.loads(path.read_bytes())
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            own = parsed
        else:
            kept = path.with_name("metrics.user.json")
            path.rename(kept)
            notes.append(f"{METRICS_FILE} that the code wrote is no JSON object: it is kept as {kept.name}")
    merged = {**own, **reported}
    path.write_text(json.dumps(merged, indent=2) + "\n")
    return {name: value for name, value in merged.items() if _is_metric(value)}, notes


def _is_metric(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


@cache
def installed_packages(layer: Path | None) -> dict[str, str]:
    """Names and versions of the packages that the code can import, of the layer before this environment's; sorted."""
    path = [str(layer), *sys.path] if layer else list(sys.path)
    packages: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=path):
        with contextlib.suppress(Exception):  # a package with broken metadata must not cost the record of all others
            packages.setdefault(distribution.metadata["Name"], distribution.version)
    return dict(sorted(packages.items(), key=lambda item: item[0].lower()))


def write_environment(
    artifacts: Path,
    *,
    job: Mapping[str, object],
    layer: Path | None,
    cluster: Mapping[str, Any],
    run: Mapping[str, object],
    spec: Mapping[str, Any],
) -> None:
    """Writes `environment.json`: what ran where, with which versions; no values of environment variables."""
    record = {
        "job": job,
        "run": run,
        "spec": without_values(spec),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": installed_packages(layer),
        "cluster": cluster,
    }
    (artifacts / ENVIRONMENT_FILE).write_text(json.dumps(record, indent=2, default=str) + "\n")


def without_values(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A job's spec to be kept: of a script its checksum, of environment variables their names."""
    kept: dict[str, Any] = {}
    for name, value in spec.items():
        if name == "env":
            kept[name] = [variable["name"] for variable in value]
        elif name == "script":
            kept[name] = f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        else:
            kept[name] = without_values(value) if isinstance(value, Mapping) else value
    return kept


def move_logs(logs: Path, artifacts: Path) -> None:
    """Moves the processes' logs to where they are kept."""
    target = artifacts / LOGS_FOLDER
    target.mkdir(exist_ok=True)
    for log in sorted(logs.iterdir()):
        shutil.move(log, target / log.name)


def notes_on_files(artifacts: Path, left_in_work: Sequence[str], *, succeeded: bool) -> list[str]:
    """Sentences about files that the user may miss: in the working folder, or none at all."""
    if left_in_work:
        shown = ", ".join(left_in_work[:3]) + (", …" if len(left_in_work) > 3 else "")
        note = f"the code left {len(left_in_work)} file(s) in its working folder, which are not kept: {shown}."
        return [f"{note} Write what should be kept to os.environ['ARTIFACTS_DIR']."]
    if succeeded and not any(artifacts.iterdir()):
        return ["the code wrote nothing to os.environ['ARTIFACTS_DIR']: no model is kept."]
    return []
