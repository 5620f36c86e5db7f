"""What a colleague who knows Dask would say of a run, from its figures: what is wrong, and what to change. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dask_training.api import ADVICE_ANNOTATION, Reason
from dask_training.model import TrainingJob
from dask_training.runner.run_summary import AttemptSummary
from dask_training.termination import MAX_ADVICE, Advice

TINY_TASK_SECONDS: Final = (
    0.020  # from here on a task costs about 1 % more than with loky: benchmarks/joblib-backend.md
)
GOOD_TASK_SECONDS: Final = 0.1  # five times that
FEWEST_TINY_TASKS: Final = 100  # fewer are over before anybody notices
FEWEST_TINY_DASK_TASKS: Final = 1000  # Dask's own collections always have some
UNUSED_AFTER_SECONDS: Final = 10.0  # a script that has run for so long was meant to compute something
FEW_AFTER_SECONDS: Final = 30.0
SERIAL_AFTER_SECONDS: Final = 120.0  # imports, plots and small trials are no serial part worth a word
LOW_BUSY_SHARE: Final = 0.3
HALF_BUSY: Final = 0.5
SPILL_SHARE: Final = 0.6  # of its memory: distributed.worker.memory.target, from where a worker spills
PAUSE_SHARE: Final = 0.8  # of its memory: distributed.worker.memory.pause, from where a worker starts no task
SPILLED_SHARE: Final = 0.5  # of one worker's memory: a little goes to disk now and then and does no harm
SCATTERED_SHARE: Final = 0.5  # of one worker's memory: what a fit makes of its data comes on top
SLOW_START_SECONDS: Final = 60.0
MANY_RESTARTS: Final = 3
UNUSED_MEMORY_BYTES: Final = 4 << 30  # of each worker, beyond twice what it used
UNUSED_MEMORY_SHARE: Final = 4
UNUSED_MEMORY_AFTER_SECONDS: Final = 60.0
LOSS_FOR_FEWER_WORKERS: Final = 1.1  # so much longer a run may take where fewer workers are proposed

_OFF: Final = ("off", "false", "no", "0")
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_LIMIT: Final = "spec.workers.resources.limits.memory"
# Runs whose figures say how the work was spread: elsewhere something else went wrong first.
_MEANINGFUL: Final = (Reason.COMPLETED, Reason.DEADLINE_EXCEEDED, Reason.ARTIFACT_STORE_FAILED)


def advise(summary: AttemptSummary, job: TrainingJob, *, killed_for_memory: int = 0) -> tuple[Advice, ...]:
    """At most three pieces of advice on an attempt: first what can end a job, then what costs time, then money.

    `killed_for_memory` counts the workers that were killed when they went over their memory limit. What is not known
    in `summary` is not advised on. None at all for a job whose annotation `dask-training.io/advice` is "off".
    """
    if is_off(job):
        return ()
    facts = _Facts(summary, job, killed_for_memory)
    return tuple(facts.advice())[:MAX_ADVICE]


def is_off(job: TrainingJob) -> bool:
    """Whether the job's annotation `dask-training.io/advice` says that none is wanted."""
    return job.metadata.annotations.get(ADVICE_ANNOTATION, "").strip().lower() in _OFF


def tiny_tasks(count: int, mean: float) -> Advice:
    """Advice against joblib tasks that are too short."""
    return Advice(
        rule="tiny-tasks",
        message=f"{count:,} tasks took {_short(mean)} each on average: below {_short(TINY_TASK_SECONDS)} handing a task"
        " to a worker can take longer than the task",
        fix=f"do the work of about {math.ceil(GOOD_TASK_SECONDS / max(mean, 1e-6)):,} in one task, or leave it to the"
        " script: n_jobs=1 there",
    )


def nothing_on_workers(job: TrainingJob, seconds: float, workers: int) -> Advice:
    """Advice where a script has run so long and none of its work was done by a worker."""
    backend = job.spec.runner.joblib.backend if job.spec.runner else "dask"
    if backend != "dask":
        fix = "set spec.runner.joblib.backend to dask"
    else:
        fix = "leave out n_jobs=1 and joblib backends of your own (parallel_config): then the workers are used"
    return Advice(
        rule="nothing-on-workers",
        message=f"the script ran for {_duration(seconds)}, and {_count(workers, 'worker')} had nothing to do",
        fix=f"{fix}; if nothing in it can run in parallel, such as one fit of one SVC, it needs no cluster",
    )


@dataclass(frozen=True)
class _Facts:
    """A summary, and what follows from it."""

    summary: AttemptSummary
    job: TrainingJob
    killed_for_memory: int

    def advice(self) -> Iterator[Advice]:
        """In the order of what is gained: a job that ends, then time, then money."""
        guest = self.job.spec.cluster_ref is not None
        if not guest:
            yield from self._memory()
        if self.summary.reason in _MEANINGFUL:
            yield from self._work() if not guest else self._tiny_tasks()
        if not guest:
            yield from self._restarts()
        if self.summary.reason in _MEANINGFUL:
            yield from self._slow_start()
            if not guest:
                yield from self._unused_memory()

    def _work(self) -> Iterator[Advice]:
        """One piece at most on how the work was spread: the others follow from the first."""
        for rule in (self._nothing, self._tiny_tasks, self._tiny_dask_tasks, self._few_tasks, self._serial):
            found = list(rule())
            if found:
                yield from found
                return

    @property
    def _script(self) -> float:
        return self.summary.timings.script or 0.0

    @property
    def _threads(self) -> int:
        return self.summary.workers.replicas * self.summary.workers.threads

    @property
    def _limit(self) -> int:
        return self.summary.workers.memory_limit or 0

    @property
    def _joblib_tasks(self) -> int:
        return self.summary.joblib.tasks if self.summary.joblib else 0

    @property
    def _busy_share(self) -> float | None:
        """Of the time that threads were there while the script ran; workers may have waited for it to start."""
        threads = self.summary.thread_seconds
        there = min(threads.available, self._threads * self._script) if threads is not None else 0.0
        return min(1.0, threads.busy / there) if threads is not None and there > 0 else None

    def _memory(self) -> Iterator[Advice]:
        moved = self.summary.moved
        killed = self.killed_for_memory or int(self.summary.reason == Reason.WORKER_OOM_KILLED)
        if killed:
            said = f"{_count(killed, 'worker')} killed for going over {_of_limit(self._limit)}; what it held was lost"
            yield self._more_memory("killed-for-memory", said)
            return
        if moved is None or not self._limit:
            return
        held = moved.peak_worker_memory or 0
        if moved.spilled >= SPILLED_SHARE * self._limit:
            said = f"workers of {_size(self._limit)} each put {_size(moved.spilled)} on disk for lack of memory"
            yield self._more_memory("data-do-not-fit", said)
        elif held >= PAUSE_SHARE * self._limit:
            said = f"a worker held {_size(held)} of {_size(self._limit)}: from 80 % on it starts no new task"
            yield self._more_memory("data-do-not-fit", said)
        elif held >= SPILL_SHARE * self._limit and moved.scattered >= SCATTERED_SHARE * self._limit:
            sent = _size(moved.scattered)
            said = f"a worker held {_size(held)} of {_size(self._limit)}, and {sent} of data were sent to workers"
            yield self._more_memory("data-do-not-fit", said)

    def _more_memory(self, rule: str, said: str) -> Advice:
        threads = self.summary.workers.threads
        other = "or hold less at a time: smaller pieces of data"
        other += f", spec.workers.threads: {max(1, threads // 2)}" if threads > 1 else ""
        if not self._limit:
            return Advice(rule=rule, message=said, fix=f"set {_LIMIT}, {other}")
        wanted = _rounded_up(2 * self._limit)
        return Advice(rule=rule, message=said, fix=f"{_LIMIT}: {_quantity(wanted)}, {other}")

    def _nothing(self) -> Iterator[Advice]:
        tasks = self.summary.tasks
        if tasks is None or tasks.done or tasks.failed or self._joblib_tasks or self._script < UNUSED_AFTER_SECONDS:
            return
        yield nothing_on_workers(self.job, self._script, self.summary.workers.replicas)

    def _tiny_tasks(self) -> Iterator[Advice]:
        work = self.summary.joblib
        if work is not None and work.tasks >= FEWEST_TINY_TASKS and work.seconds < TINY_TASK_SECONDS * work.tasks:
            yield tiny_tasks(work.tasks, work.seconds / work.tasks)

    def _tiny_dask_tasks(self) -> Iterator[Advice]:
        """Of tasks that are not joblib's; where the workers are busy all the same, nothing is lost by it."""
        tasks, work, share = self.summary.tasks, self.summary.joblib, self._busy_share
        if tasks is None or share is None or share >= HALF_BUSY:
            return
        count = tasks.done - (work.batches if work else 0)
        seconds = max(0.0, tasks.seconds - (work.seconds if work else 0.0))
        if count >= FEWEST_TINY_DASK_TASKS and seconds < TINY_TASK_SECONDS * count:
            yield Advice(
                rule="tiny-tasks",
                message=f"{count:,} Dask tasks took {_short(seconds / count)} each on average, and the workers computed"
                f" for {share:.0%} of the time: the rest went into handing out tasks, or into waiting for the script",
                fix=f"larger pieces: partitions or chunks {_times(GOOD_TASK_SECONDS * count / max(seconds, 1e-6))} as"
                " large, or more calls in one submitted function",
            )

    def _few_tasks(self) -> Iterator[Advice]:
        work, tasks, share = self.summary.joblib, self.summary.tasks, self._busy_share
        if work is None or not work.calls or self._adapts or share is None or share >= HALF_BUSY:
            return
        # Calls within tasks are Dask tasks and no calls of the script's: they fill threads too.
        each = max(work.tasks, tasks.done if tasks else 0) / work.calls
        enough = max(1, math.ceil(each / self.summary.workers.threads))
        if self._script < FEW_AFTER_SECONDS or each >= self._threads or enough >= self.summary.workers.replicas:
            return
        where = "" if work.calls == 1 else f" in each of {work.calls} parallel calls"
        yield Advice(
            rule="idle-workers",
            message=f"there were about {_count(round(each), 'task')}{where} for {self._threads} threads of workers:"
            " the others had nothing to do",
            fix=f"spec.workers.replicas: {enough} takes as long; for more speed put more into one call, such as all"
            " candidates and folds of a search",
        )

    def _serial(self) -> Iterator[Advice]:
        share, threads = self._busy_share, self.summary.thread_seconds
        if share is None or threads is None or share >= LOW_BUSY_SHARE or self._adapts:
            return
        if self._script < SERIAL_AFTER_SECONDS or self._threads < 2:
            return
        alone = max(0.0, self._script - threads.busy / self._threads)
        enough = self._enough_workers(alone, threads.busy)
        fewer = f"spec.workers.replicas: {enough} takes about as long; " if enough else ""
        yield Advice(
            rule="serial-part",
            message=f"the workers computed for {share:.0%} of the time: for about {_duration(alone)} of"
            f" {_duration(self._script)} they waited for the script itself",
            fix=f"{fewer}to be faster, have the workers do what the script does alone (joblib there, or data read by"
            " dask.dataframe)",
        )

    def _enough_workers(self, alone: float, busy: float) -> int | None:
        """The fewest workers that take hardly longer, by Amdahl's law; None if that is all of them."""
        workers = self.summary.workers
        for count in range(1, workers.replicas):
            if alone + busy / (count * workers.threads) <= LOSS_FOR_FEWER_WORKERS * self._script:
                return count
        return None

    @property
    def _adapts(self) -> bool:
        return self.job.spec.workers.is_adaptive

    def _restarts(self) -> Iterator[Advice]:
        workers = self.summary.workers
        count = max(workers.restarts, workers.lost or 0) - self.killed_for_memory
        if count >= MANY_RESTARTS and self.summary.reason in _MEANINGFUL:
            yield Advice(
                rule="worker-restarts",
                message=f"workers were lost {count} times; what each was computing had to be computed again",
                fix="the ends of logs/worker-*.log say why: a native library that crashes, or nodes that were taken"
                " away (spec.nodeSelector, spec.priorityClassName)",
            )

    def _slow_start(self) -> Iterator[Advice]:
        startup = self.summary.timings.startup
        if self.job.spec.packages and startup >= SLOW_START_SECONDS and startup > self._script:
            here = self.summary.resource_basis == "used"
            yield Advice(
                rule="slow-start",
                message=f"starting took {_duration(startup)}, longer than the script's {_duration(self._script)}: each"
                f" start installs {_count(len(self.job.spec.packages), 'package')}",
                fix="install spec.packages in the environment that dask-training runs in"
                if here
                else "build an image with spec.packages in it and set spec.image (docs/own-image.md)",
            )

    def _unused_memory(self) -> Iterator[Advice]:
        peak = self.summary.moved.peak_worker_memory if self.summary.moved else None
        if not peak or self.summary.resource_basis != "reserved" or self._script < UNUSED_MEMORY_AFTER_SECONDS:
            return
        if self._limit >= UNUSED_MEMORY_SHARE * peak and self._limit - 2 * peak >= UNUSED_MEMORY_BYTES:
            yield Advice(
                rule="unused-memory",
                message=f"no worker held more than {_size(peak)} of its {_size(self._limit)}",
                fix=f"{_LIMIT} (and requests.memory): {_quantity(_rounded_up(2 * peak))}",
            )


def _short(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.5 else f"{milliseconds:.1f} ms"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _times(factor: float) -> str:
    return f"{min(math.ceil(factor), 1000):,} times"


def _count(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"


def _of_limit(limit: int) -> str:
    return f"the memory limit of {_size(limit)}" if limit else "its memory limit"


def _rounded_up(count: int) -> int:
    step = _GIB if count > _GIB else 128 * _MIB
    return math.ceil(count / step) * step


def _quantity(count: int) -> str:
    return f"{count // _GIB}Gi" if count % _GIB == 0 else f"{count // _MIB}Mi"
