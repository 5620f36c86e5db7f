"""What all commands on a cluster share: options, the client, completion, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dask_training.api import ExitCode, Phase
from dask_training.cli.completion import cluster_job_names

if TYPE_CHECKING:
    from dask_training.client import TrainingClient
    from dask_training.runner.events import Finished

_Command = TypeVar("_Command", bound=Callable[..., Any])

CODES = (
    f"Exit codes: 0 done, 2 wrong usage or there is no such job, 65 a job is not right, {ExitCode.UNREACHABLE} the "
    f"cluster can't be reached, {ExitCode.FORBIDDEN} you may not do that."
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


class DurationType(click.ParamType[float]):
    """Seconds, written as kubectl does: 30, 90s, 10m, 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that *value* says."""
        if isinstance(value, float | int):
            return float(value)
        match = _DURATION.fullmatch(value)
        if match is None or not value:
            self.fail(f"{value!r} is no duration: write 30s, 10m or 1h30m", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds


DURATION = DurationType()


def cluster_options(command: _Command) -> _Command:
    """Adds --namespace and --context, with kubectl's meaning."""
    namespace = click.option(
        "--namespace", "-n", metavar="NAMESPACE", help="In place of the current context's namespace."
    )
    context = click.option("--context", metavar="CONTEXT", help="In place of the kubeconfig's current context.")
    return namespace(context(command))


def job_argument(command: _Command) -> _Command:
    """Adds the argument NAME, completed with the names of the jobs on the cluster."""
    return click.argument("name", shell_complete=cluster_job_names)(command)


@contextmanager
def client_of(namespace: str | None, context: str | None) -> Iterator[TrainingClient]:
    """The client for what the options say."""
    from dask_training.client import TrainingClient  # noqa: PLC0415 - takes most of a second; --help need not wait

    with TrainingClient(context=context, namespace=namespace) as client:
        yield client


def where(client: TrainingClient) -> str:
    """Such as `namespace default, context kind-dask`."""
    context = client.connection.context
    return f"namespace {client.namespace}" + (f", context {context}" if context else "")


class Commands:
    """The commands to give next, with the options that this one was given."""

    def __init__(self, name: str, namespace: str | None, context: str | None) -> None:
        self._name = name
        options = [f"-n {namespace}"] if namespace else []
        options += [f"--context {context}"] if context else []
        self._options = "".join(f" {option}" for option in options)

    def __call__(self, finished: Finished) -> list[str]:
        """For a job that has ended."""
        commands = [self.fetch()] if finished.artifacts is not None else []
        return commands if finished.phase is Phase.SUCCEEDED else [*commands, self.command("get")]

    def command(self, verb: str) -> str:
        """`dask-training VERB NAME` with those options."""
        return f"dask-training {verb} {self._name}{self._options}"

    def fetch(self) -> str:
        """How to get the artifacts here."""
        return f"dask-training artifacts get {self._name} results{self._options or ' --cluster'}"
