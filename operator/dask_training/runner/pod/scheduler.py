"""The program of a scheduler's pod."""

from __future__ import annotations

import os

from dask_training.api import Env, Port, Reason
from dask_training.runner.pod import last_word, logs_over_dask, setup
from dask_training.runner.pod.paths import PodPaths
from dask_training.termination import Termination

# A job's first task comes about so long after its scheduler.
_QUIET_SECONDS = 2.0


def main(paths: PodPaths) -> int:
    """Runs a scheduler until SIGTERM, or until the runner or a Session's clients have no more use for it."""
    failed = setup.install_packages(paths, "scheduler")
    if failed is not None:
        return failed
    setup.configure_dask(paths, "scheduler", threads=1)
    from distributed import Scheduler  # noqa: PLC0415 - it reads its configuration when imported

    from dask_training.runner import scheduler  # noqa: PLC0415
    from dask_training.runner.pod import endpoint, usage  # noqa: PLC0415

    setup.use_code(paths)
    limits, host = usage.SessionLimits.from_environment(), os.environ[Env.POD_IP]
    options = scheduler.SchedulerOptions(
        host=host,
        # A session outside of Kubernetes comes by a port-forward, and so by the loopback.
        also_host=("::1" if ":" in host else "127.0.0.1") if limits is not None else None,
        port=_port("SCHEDULER", Port.SCHEDULER),
        http_host="",  # every address: `kubectl port-forward` comes by the loopback's
        http_port=_port("HTTP", Port.SCHEDULER_HTTP),
        dashboard=os.environ.get(Env.DASHBOARD, "true") == "true",
        quiet_seconds=_QUIET_SECONDS,
    )
    token = (paths.secret / "token").read_text().strip()

    def unused(reason: str) -> None:
        last_word.write(paths, Termination(reason=Reason.IDLE_TIMEOUT, message=reason, succeeded=True))

    def prepare(made: Scheduler) -> None:
        logs_over_dask.serve_scheduler_logs(made, paths.log)
        used = endpoint.add(made, token, has_runner=limits is None)
        if limits is not None:
            usage.SessionEnd(made, used, limits, unused)

    return scheduler.run(scheduler.serve(options, lambda _: None, prepare))


def _port(name: str, usual: int) -> int:
    """The usual one; in tests, which have one machine for all pods, what the environment says."""
    return int(os.environ.get(f"DASK_TRAINING_{name}_PORT", usual))
