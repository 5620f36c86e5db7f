"""Renders the charts with `helm template`, as Python objects."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import search_path

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
# The oldest that the charts allow, and that of the cluster of `make kind`.
OLDEST, NEWEST = "1.29.0", "1.34.0"
# A release that nobody has: names and labels must come from it.
RELEASE, NAMESPACE = "dask-training", "some-namespace"


class HelmError(Exception):
    """What helm said."""


TIMEOUT = 900  # the first test may wait until helm and versitygw have been made, beside the node's programs


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Gives the path of a program by its name; one that images/kind-node/tools.sh can make is made if it is missing."""

    def tool(name: str) -> str:
        if found := shutil.which(name, path=search_path()):
            return found
        command = [ROOT / "images/kind-node/tools.sh", name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return shutil.which(name, path=search_path())

    return tool


@pytest.fixture(scope="session")
def helm(tool) -> Callable[..., str]:
    """Runs helm with these arguments and a values file on its standard input; raises HelmError."""
    program = tool("helm")

    def run(*arguments: str | Path, values: str = "") -> str:
        done = subprocess.run(
            [program, *arguments], input=values, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )
        if done.returncode:
            raise HelmError(done.stdout + done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render_chart(helm) -> Callable[..., list[dict[str, Any]]]:
    """Gives the objects that a release with these values would have."""

    def render(
        chart: str | Path = "dask-training-operator",
        values: dict[str, Any] | None = None,
        *,
        show_only: tuple[str, ...] = (),
        release: str = RELEASE,
        kube_version: str = NEWEST,
        options: tuple[str, ...] = (),
    ) -> list[dict[str, Any]]:
        shown = [argument for name in show_only for argument in ("--show-only", f"templates/{name}")]
        command = ["template", release, CHARTS / chart, "--namespace", NAMESPACE, "--kube-version", kube_version]
        out = helm(*command, "--values", "-", *shown, *options, values=json.dumps(values or {}))
        return [document for document in yaml.load_all(out, Loader=yaml.CSafeLoader) if document]

    return render


@pytest.fixture(scope="session")
def render_notes(render_chart, tmp_path_factory) -> Callable[..., str]:
    """Gives a release's notes: `helm template` leaves them out, so a copy of the chart has them as an object."""
    folder = tmp_path_factory.mktemp("notes")

    def render(chart: str = "dask-training-operator", values: dict[str, Any] | None = None, **options: Any) -> str:
        copy = folder / chart
        if not copy.exists():
            shutil.copytree(CHARTS / chart, copy)
            notes = copy / "templates" / "NOTES.txt"
            text = '{{- define "notes" -}}\n' + notes.read_text() + "\n{{- end -}}\n"
            notes.unlink()
            (copy / "templates" / "_notes.tpl").write_text(text)
            (copy / "templates" / "notes.yaml").write_text('kind: Notes\ntext: {{ include "notes" . | toJson }}\n')
        [notes] = render_chart(copy, values, show_only=("notes.yaml",), **options)
        return notes["text"]

    return render


@pytest.fixture(scope="session")
def all_on() -> dict[str, Any]:
    """Values that use everything that the operator's chart has, none of them its default."""
    return yaml.safe_load((Path(__file__).parent / "all-on.yaml").read_text())
