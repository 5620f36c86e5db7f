"""Where `dask-training artifacts` looks for what the user names: here, behind a URL, or on a cluster."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_training.api import ExitCode
from dask_training.cli import cluster
from dask_training.errors import KubernetesError, NotFoundError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dask_training.artifacts import ArtifactStore
    from dask_training.client import TrainingClient

ROOT = Path("artifacts")
_JOB = re.compile(r"(?P<name>[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?)(?:/(?P<attempt>[1-9][0-9]{0,3}))?")


class NoSuchRunError(click.ClickException):
    """What was named is no run; the message says what there is."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Where:
    """What the options --cluster, --namespace and --context say."""

    cluster: bool = False
    namespace: str | None = None
    context: str | None = None

    @property
    def on_cluster(self) -> bool:
        """Whether a cluster is meant, and nothing here."""
        return self.cluster or self.namespace is not None or self.context is not None

    def client(self) -> AbstractContextManager[TrainingClient]:
        """The client for it."""
        return cluster.client_of(self.namespace, self.context)

    def described(self, client: TrainingClient) -> str:
        """Such as `namespace default, context kind-dask`."""
        return cluster.where(client)


@dataclass(frozen=True)
class Opened:
    """A store, and the run or the runs below `prefix` in it that are meant."""

    store: ArtifactStore
    prefix: str = ""
    on_cluster: bool = False


def where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --cluster, --namespace and --context, and gives them to the command as one `where`."""

    @cluster.cluster_options
    @click.option("--cluster", "on_cluster", is_flag=True, help="A job on the current context's cluster.")
    @functools.wraps(command)
    def wrapped(*args: Any, on_cluster: bool, namespace: str | None, context: str | None, **options: Any) -> Any:
        return command(*args, where=Where(on_cluster, namespace, context), **options)

    return wrapped


@contextmanager
def open_place(place: str, where: Where) -> Iterator[Opened]:
    """What *place* means: a URL, a run or a folder of runs here, or else a job on the cluster.

    Raises NoSuchRunError for what is nowhere, saying where it was looked for.
    """
    from dask_training.artifacts import ArtifactStore  # noqa: PLC0415 - takes a while; --help need not wait

    if where.on_cluster:
        with _open_job(place, where) as opened:
            yield opened
        return
    url = place if "://" in place else _here(place)
    if url is not None:
        with ArtifactStore.from_url(url) as store:
            yield Opened(store)
        return
    nowhere = _not_here(place)
    if not place or not _JOB.fullmatch(place) or not _has_kubeconfig():
        raise NoSuchRunError(nowhere)
    try:
        found = _find(place, where)
    except NotFoundError as error:
        raise NoSuchRunError(f"{nowhere};\non the cluster: {error}") from error
    except KubernetesError as error:
        raise NoSuchRunError(f"{nowhere};\non the cluster it could not be looked for: {error}") from error
    with _open_found(found, where) as opened:
        yield opened


def _here(place: str) -> str | None:
    # First what `run` has made: beside ./artifacts there may well be a folder with the job's name and sources.
    for path in (ROOT / place, Path(place).expanduser()):
        if path.is_dir() and (place or path == ROOT):
            return str(path)
    return None


def _not_here(place: str) -> str:
    if not place:
        return f"there is no folder {ROOT} here: 'dask-training run' makes it; or name another place"
    names = sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir()) if ROOT.is_dir() else []
    near = difflib.get_close_matches(place.partition("/")[0], names, n=1)
    there = f"; did you mean {near[0]}?" if near else f"; jobs with runs: {', '.join(names)}" if names else ""
    return f"there is neither a run {place} below {ROOT} nor a folder {place}{there}"


def _has_kubeconfig() -> bool:
    """Whether there is a cluster to ask, without the second that asking costs."""
    files = os.environ.get("KUBECONFIG") or "~/.kube/config"
    there = any(Path(file).expanduser().is_file() for file in files.split(os.pathsep) if file)
    return there or "KUBERNETES_SERVICE_HOST" in os.environ


@dataclass(frozen=True)
class _Found:
    """A job on the cluster, and the attempt that was asked for."""

    body: dict[str, Any]
    attempt: int | None


def _find(place: str, where: Where) -> _Found:
    match = _JOB.fullmatch(place)
    if match is None:
        raise NoSuchRunError(f"{place!r} is no job on a cluster: write NAME or NAME/ATTEMPT")
    with where.client() as client:
        job = client.get(match["name"])
    return _Found(job.body, int(match["attempt"]) if match["attempt"] else None)


@contextmanager
def _open_job(place: str, where: Where) -> Iterator[Opened]:
    with _open_found(_find(place, where), where) as opened:
        yield opened


@contextmanager
def _open_found(found: _Found, where: Where) -> Iterator[Opened]:
    from dask_training.client.reader import open_store, run_prefix  # noqa: PLC0415 - --help need not wait

    name = found.body["metadata"]["name"]
    if not ((found.body.get("status") or {}).get("artifacts") or {}).get("url") and found.attempt is None:
        phase = (found.body.get("status") or {}).get("phase") or "Pending"
        raise NoSuchRunError(f"{name} has kept nothing yet: it is {phase}")
    with where.client() as client:
        click.echo(f"reading {name} from the cluster ({where.described(client)}) …", err=True)
        with open_store(client.connection, found.body, lambda text: click.echo(text, err=True)) as store:
            yield Opened(store, run_prefix(found.body, found.attempt), on_cluster=True)
