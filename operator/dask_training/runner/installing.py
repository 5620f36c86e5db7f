"""The step of an attempt that installs `spec.packages`, before the code is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dask_training.api import ExitCode, Reason
from dask_training.runner import packages
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.processes import Exit, RunProcess
from dask_training.runner.supervisor import Supervisor
from dask_training.runner.verdict import Outcome
from dask_training.runner.workspace import Workspace


def install(
    wanted: Sequence[str],
    supervisor: Supervisor,
    workspace: Workspace,
    lifeline: Lifeline,
    *,
    env: Mapping[str, str],
    echo: bool = False,
) -> Outcome | None:
    """Installs *wanted* into the workspace's layer; the outcome if that failed or the attempt ended meanwhile.

    What pip says goes into logs/packages.log; with *echo* also to this process's own output.
    """
    if not wanted:
        return None
    log = LogFile(workspace.logs / "packages.log")
    command = packages.pip_command(wanted, workspace.layer)

    def start(ended: Callable[[Exit], None]) -> RunProcess:
        return RunProcess(
            command,
            env=env,
            cwd=workspace.work,
            lifeline=lifeline,
            on_line=lambda line, _: log.write(line),
            on_exit=ended,
            echo=echo,
        )

    result = supervisor.run_step(start)
    log.close()
    if isinstance(result, Outcome):
        return result
    if result.code == 0:
        return None
    error = packages.failure(wanted, result.code, log.tail(50))
    return Outcome(Reason.PACKAGES_FAILED, str(error), ExitCode.PACKAGES)
