"""The termination message: what a pod says of its own end, for the operator."""

from __future__ import annotations

import os

from dask_training.api import Env, Reason
from dask_training.runner.cgroup import oom_kills
from dask_training.runner.pod.paths import PodPaths
from dask_training.runner.verdict import OutOfMemory
from dask_training.termination import Termination, encode

_REASONS = {
    "scheduler": (Reason.SCHEDULER_OOM_KILLED, Reason.SCHEDULER_FAILED),
    "worker": (Reason.WORKER_OOM_KILLED, Reason.WORKERS_UNAVAILABLE),
    "runner": (Reason.RUNNER_OOM_KILLED, Reason.RUNNER_KILLED),
    "engine": (Reason.WORKER_OOM_KILLED, Reason.RUNNER_KILLED),
    "reader": (Reason.INTERNAL_ERROR, Reason.INTERNAL_ERROR),
}
_KILLED = 137  # as a shell gives it for SIGKILL
_FIELDS = {
    "scheduler": "spec.scheduler.resources.limits.memory",
    "worker": "spec.workers.resources.limits.memory",
    "runner": "spec.runner.resources.limits.memory",
    "engine": "spec.workers.resources.limits.memory",
}
_RUNS_CODE = ("runner", "engine")


def write(paths: PodPaths, termination: Termination) -> None:
    """Writes the message; a pod that has no place for it goes without."""
    try:
        paths.termination.write_bytes(encode(termination))
    except OSError as error:
        # On stderr, and so in the pod's log, which the kubelet falls back to.
        os.write(2, f"dask-training: {paths.termination}: {error}\n".encode())


def memory_limit() -> int | None:
    """This container's memory limit in bytes, if it has one."""
    text = os.environ.get(Env.MEMORY_LIMIT, "")
    return int(text) if text.isdigit() and int(text) > 0 else None


def out_of_memory(role: str) -> OutOfMemory:
    """The death of this pod's program by its memory limit."""
    pod = os.environ.get(Env.POD_NAME, role) if role in ("worker", "engine") else role
    return OutOfMemory(pod, memory_limit(), _FIELDS[role])


def of_killed(role: str, paths: PodPaths) -> None:
    """The message where the program was killed by SIGKILL: by the kernel for lack of memory, or by somebody."""
    oom, other = _REASONS[role]
    killed_by_kernel = oom_kills(paths.root) > 0 and role in _FIELDS
    message = f"{out_of_memory(role)}. Raise that limit." if killed_by_kernel else f"the {role} was killed by SIGKILL"
    reason, code = oom if killed_by_kernel else other, _KILLED if role in _RUNS_CODE else None
    write(paths, Termination(reason=reason, message=message, exit_code=_KILLED, script_exit_code=code))
