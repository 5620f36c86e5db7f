"""What a kept run says of itself: its summary.json and environment.json, wherever they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_training.cli.artifact_places import NoSuchRunError, Where, open_place
from dask_training.cli.artifacts import only_run
from dask_training.runner import run_summary

if TYPE_CHECKING:
    from dask_training.artifacts import ArtifactStore
    from dask_training.runner.run_summary import AttemptSummary

_ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class RunRecords:
    """One run: `name` as it was given, where it is, what it did, and in what environment ({}: not kept)."""

    name: str
    url: str
    summary: AttemptSummary
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packages(self) -> dict[str, str]:
        """Versions by name, Python's among them."""
        packages = self.environment.get("packages")
        found = {str(name): str(version) for name, version in packages.items()} if isinstance(packages, dict) else {}
        python = self.environment.get("python")
        return {"Python": str(python), **found} if python else found

    @property
    def spec(self) -> dict[str, Any]:
        """The fields of the job's spec by their path, such as `workers.replicas`."""
        spec = self.environment.get("spec")
        return dict(_flat(spec)) if isinstance(spec, dict) else {}


def read_run(place: str, where: Where) -> RunRecords:
    """The records of the run that *place* means, as for `artifacts`; raises NoSuchRunError for what has none."""
    with open_place(place, where) as opened:
        store, prefix = opened.store, only_run(opened, place)
        kept = {entry.path for entry in store.manifest(prefix).files}
        url = store.url_of(prefix)
        if run_summary.FILE not in kept:
            raise NoSuchRunError(
                f"{place} ({url}) has no {run_summary.FILE}: it was kept by an older dask-training. Run it again."
            )
        try:
            summary = run_summary.read(_content(store, prefix, run_summary.FILE))
        except ValueError as error:
            raise NoSuchRunError(f"{place}: {url}/{run_summary.FILE} can't be read: {error}") from error
        environment = _environment(store, prefix) if _ENVIRONMENT in kept else {}
    return RunRecords(place, url, summary, environment)


def _environment(store: ArtifactStore, prefix: str) -> dict[str, Any]:
    try:
        found = json.loads(_content(store, prefix, _ENVIRONMENT))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _content(store: ArtifactStore, prefix: str, path: str) -> bytes:
    _, pieces = store.read(prefix, path)
    return b"".join(pieces)


def _flat(value: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, each in value.items():
        path = f"{above}{name}"
        found += _flat(each, f"{path}.") if isinstance(each, dict) and each else [(path, each)]
    return found
