"""How pods that have ended tell how the attempt went: a table in code. What they say themselves is not trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dask_training.api import ExitCode, Reason, Role
from dask_training.model.job import Resources
from dask_training.observed import Ended, Pod
from dask_training.reconcile.view import View
from dask_training.termination import Termination

# What a runner may say of its own end. Of its pod and of other pods the operator knows more than it.
_RUNNER_SAYS = set(Reason) - {
    *(Reason.VALIDATION_FAILED, Reason.NAME_COLLISION, Reason.IDLE_TIMEOUT, Reason.QUOTA_EXCEEDED),
    *(Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED),
}
_NO_PACKAGE = re.compile(r"No module named ['\"]?(dask_training|distributed|dask|joblib|sklearn)\b")
_NO_START = {"StartError", "ContainerCannotRun"}
_KILLED = 137


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; `exit_code` is that of the user's code, if it ran to an end."""

    reason: Reason
    message: str
    exit_code: int | None = None
    said: Termination | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the job has what it was for."""
        return self.reason in (Reason.COMPLETED, Reason.IDLE_TIMEOUT, Reason.OWNER_GONE)


def of_runner(pod: Pod, view: View) -> Outcome:
    """How the attempt went, by the end of its runner."""
    ended = pod.ended
    if ended is None:
        return disrupted(pod)
    said = ended.termination
    if said is None:
        return _of_silent_runner(pod, ended, view)
    reason = Reason(said.reason) if said.reason in _RUNNER_SAYS else None
    succeeded = ended.exit_code == 0 and said.succeeded
    if reason is None or (reason is Reason.COMPLETED) != succeeded or (ended.exit_code == 0) != succeeded:
        text = f"the runner ended with exit code {ended.exit_code} and said {said.reason!r} of it, which can't be."
        return Outcome(Reason.INTERNAL_ERROR, f"{text} {said.message}".rstrip(), said.script_exit_code, said)
    if reason is Reason.INTERRUPTED:
        return Outcome(Reason.RUNNER_DISRUPTED, f"{_taken(pod)}.\n{_MORE_ATTEMPTS}", said.script_exit_code, said)
    better = _better(reason, view) or Outcome(reason, said.message or reason.value)
    return Outcome(better.reason, better.message, said.script_exit_code, said)


def _better(reason: Reason, view: View) -> Outcome | None:
    """What the operator knows better than the runner, which can't see why others are not there."""
    if reason is Reason.SCHEDULER_FAILED and view.is_guest:
        return of_host(view) if view.host_is_lost else None
    if reason is Reason.SCHEDULER_FAILED and (view.scheduler is None or view.scheduler.is_lost):
        return of_scheduler(view)
    if reason is Reason.STARTUP_DEADLINE_EXCEEDED and view.blockers:
        return Outcome(view.blockers[0].reason, view.blockers[0].message)
    if reason is Reason.WORKERS_UNAVAILABLE:
        return out_of_memory_worker(view)
    return None


def _of_silent_runner(pod: Pod, ended: Ended, view: View) -> Outcome:
    """The runner always says how it ended; where it did not, it never ran or was killed."""
    code, words = ended.exit_code, ended.last_words
    if ended.out_of_memory:
        runner = view.spec.runner
        text = out_of_memory("the runner", runner.resources if runner else Resources(), "spec.runner.resources")
        return Outcome(Reason.RUNNER_OOM_KILLED, text, code)
    if pod.loss:
        return disrupted(pod)
    if cannot_start := _cannot_start(pod, ended):
        return cannot_start
    if code == _KILLED:
        text = "the runner was killed by SIGKILL. If nobody did that on purpose, its node ran out of memory."
        return Outcome(Reason.RUNNER_KILLED, text, code)
    text = f"the runner ended with exit code {code} without saying why."
    return Outcome(Reason.INTERNAL_ERROR, _with_words(text, words))


def of_scheduler(view: View) -> Outcome:
    """How the attempt went, by the end of its scheduler."""
    pod = view.scheduler
    again = _MORE_ATTEMPTS if view.has_runner else _NEW_SESSION
    if pod is None:
        return Outcome(Reason.SCHEDULER_DISRUPTED, f"the scheduler's pod is gone: somebody deleted it.\n{again}")
    ended = pod.ended
    if ended is not None and ended.out_of_memory:
        text = out_of_memory("the scheduler", view.spec.scheduler.resources, "spec.scheduler.resources")
        return Outcome(Reason.SCHEDULER_OOM_KILLED, text)
    if pod.loss or ended is None:
        return Outcome(Reason.SCHEDULER_DISRUPTED, f"the scheduler was taken away: {_taken(pod)}.\n{again}")
    if ended.exit_code == 0 and not view.has_runner:
        return _of_session(ended)
    if known := failed_packages(ended) or _cannot_start(pod, ended):
        return known
    text = f"the scheduler ended with exit code {ended.exit_code}, and what it knew of the computation with it."
    return Outcome(Reason.SCHEDULER_FAILED, _with_words(text, ended.last_words))


def _of_session(ended: Ended) -> Outcome:
    """A Session's scheduler ends of itself where a client says so, or where nobody uses it and nobody else ends it."""
    said = ended.termination
    if said is not None and said.reason == Reason.IDLE_TIMEOUT:
        return Outcome(Reason.IDLE_TIMEOUT, said.message or "nobody used the cluster")
    return Outcome(Reason.COMPLETED, "a client has shut the cluster down")


def of_engine(pod: Pod, view: View) -> str:
    """Why a worker of mode Workers has failed, in words that follow its number."""
    ended = pod.ended
    if ended is None:
        return pod.loss or f"its pod ended without having run. {pod.message}".rstrip()
    said = ended.termination
    if _ran_out(ended):
        return out_of_memory("it", view.spec.workers.resources, "spec.workers.resources")
    if pod.loss:
        return pod.loss
    if said is not None and not said.succeeded and said.message:
        return said.message
    if said is None and (cannot_start := _cannot_start(pod, ended)):
        return cannot_start.message
    text = f"it ended with exit code {ended.exit_code}."
    return text if said is not None else _with_words(text, ended.last_words)


def of_host(view: View) -> Outcome:
    """How a guest's attempt went whose cluster is gone."""
    ref, cluster = view.spec.cluster_ref, view.observed.cluster
    name = ref.name if ref is not None else ""
    now = f"it is at {cluster.address} now" if cluster is not None and cluster.address else "its Service is gone"
    text = f"DaskCluster {name!r} (spec.clusterRef) is not at {view.status.scheduler_address} any more: {now}."
    return Outcome(Reason.SCHEDULER_DISRUPTED, f"{text} Somebody deleted it.\n{_MORE_ATTEMPTS}")


def failed_packages(ended: Ended) -> Outcome | None:
    """That a container could not install `spec.packages`, with pip's reason; None if it ended of something else."""
    if ended.exit_code != ExitCode.PACKAGES:
        return None
    return Outcome(Reason.PACKAGES_FAILED, ended.last_words or "pip could not install spec.packages")


def out_of_memory_worker(view: View) -> Outcome | None:
    """That workers are missing because they went over their memory limit; None if none did."""
    for pod in view.workers:
        if any(ended is not None and _ran_out(ended) for ended in (pod.ended, pod.previous)):
            text = out_of_memory(f"worker {pod.index}", view.spec.workers.resources, "spec.workers.resources")
            return Outcome(Reason.WORKER_OOM_KILLED, text)
    return None


def _ran_out(ended: Ended) -> bool:
    """Whether a worker's container went over its memory limit.

    The kubelet may call it a plain error, where it hears of the end first; what the pod's init says is counted.
    """
    said = ended.termination
    return ended.out_of_memory or (said is not None and said.reason == Reason.WORKER_OOM_KILLED)


def out_of_memory(who: str, resources: Resources, field: str) -> str:
    """That somebody went over the limit, which, and the field to raise."""
    limit = resources.limits.get("memory")
    if limit is None:
        return f"{who} was killed because its node ran out of memory.\nSet {field}.requests.memory and .limits.memory."
    return (
        f"{who} was killed when it went over its memory limit of {limit} ({field}.limits.memory).\n"
        "Raise that limit, or hold less at a time: fewer threads, smaller pieces of data."
    )


def disrupted(pod: Pod | None) -> Outcome:
    """That the runner was taken away before its end."""
    why = "somebody deleted it, or its node is gone" if pod is None else _taken(pod)
    return Outcome(Reason.RUNNER_DISRUPTED, f"the runner was taken away: {why}.\n{_MORE_ATTEMPTS}")


_MORE_ATTEMPTS = "spec.backoffLimit, or an Ignore rule in spec.failurePolicy, gives the job more attempts."
_NEW_SESSION = "What it held is lost with it: start another session."


def _taken(pod: Pod) -> str:
    return pod.loss or "the runner was told to stop (SIGTERM)"


def _cannot_start(pod: Pod, ended: Ended) -> Outcome | None:
    """That the image does not hold what the pod is to run."""
    advice = f"Image {pod.image!r} lacks what a job's pods run: install dask-training[runtime] in it."
    if missing := _NO_PACKAGE.search(ended.message):
        return Outcome(Reason.CONFIG_ERROR, f"No module named {missing[1]}.\n{advice}")
    if ended.reason in _NO_START:
        return Outcome(Reason.CONFIG_ERROR, f"the {pod.role} can't be started: {ended.last_words}\n{advice}")
    return None


def _with_words(text: str, words: str) -> str:
    shown = words.replace("\n", "\n  ")
    return f"{text} Its last lines:\n  {shown}" if words else f"{text} It printed nothing."


def worker_words(view: View) -> str:
    """The last words of a worker that crashed; "" if none did."""
    for pod in view.workers:
        ended = pod.previous or pod.ended
        if pod.role is Role.WORKER and ended is not None and ended.exit_code != 0:
            if said := _cannot_start(pod, ended):
                return said.message
            return _with_words(f"worker {pod.index} ended with exit code {ended.exit_code}.", ended.last_words)
    return ""
