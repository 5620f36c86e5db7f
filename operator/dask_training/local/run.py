"""A job on this machine, from its file to its artifacts."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dask_training.costs import Prices
from dask_training.local.attempt import Attempt, AttemptResult
from dask_training.local.destination import Destination
from dask_training.local.machine import check_dashboard_port, notes_on_size
from dask_training.local.workspace import TemporaryWorkspace
from dask_training.model import JobFile, JobFileError, TrainingJob, retry
from dask_training.runner.events import Event, Finished, Listener, Notice


@dataclass(frozen=True)
class LocalOptions:
    """What a local run can be told beside the job.

    Args:
        artifacts_root: the folder below which `<name>/<run>/` is made, where the job names no store of its own.
        dashboard_port: 0 for any free one, None for no dashboard.
        code: a folder in place of the ConfigMap of `spec.code`.
        workers: in place of `spec.workers.replicas`.
        args: in place of `spec.runner.args`.
        prices: what an hour of CPU, memory and GPU costs, for the run's summary.
    """

    artifacts_root: Path = Path("artifacts")
    dashboard_port: int | None = 0
    code: Path | None = None
    workers: int | None = None
    args: tuple[str, ...] | None = None
    prices: Prices | None = None


class StopSignal(threading.Event):
    """Set it to end a run; `signal_number` says why, and so what the run exits with."""

    signal_number: int = signal.SIGINT


def run_locally(
    job_file: JobFile, job: TrainingJob, options: LocalOptions, listener: Listener, stop: StopSignal
) -> Finished:
    """Runs the job and returns how it ended, which is also the last event that `listener` gets.

    Blocks until everything that was started is gone again. Tries again as `spec.backoffLimit` and `spec.failurePolicy`
    say, each time with a new cluster; `activeDeadlineSeconds` counts over all attempts.

    Raises:
        JobFileError: the job can't run on this machine; nothing was started.
        PortTakenError: something else listens on `dashboard_port`; nothing was started.
    """
    problems = job_file.check_local(job, os.environ)
    if problems:
        raise JobFileError(problems)
    check_dashboard_port(options.dashboard_port)
    listen = _one_at_a_time(listener)
    job = _with_options(job, options)
    for sentence in (*job_file.ignored_locally(job), *notes_on_size(job)):
        listen(Notice(message=sentence, level="info"))
    started = time.monotonic()
    destination = Destination.of(job, job_file, options.artifacts_root)
    failures: list[retry.Failure] = []
    for number in itertools.count(1):
        with TemporaryWorkspace() as workspace:
            attempt = Attempt(
                number,
                job,
                job_file,
                workspace,
                destination,
                listen,
                started=started,
                dashboard_port=options.dashboard_port,
                code=options.code,
                prices=options.prices,
            )
            result = _run_until(stop, attempt)
        failures.append(retry.Failure(reason=result.outcome.reason, exit_code=result.outcome.script_exit_code))
        if result.is_final or isinstance(decision := retry.decide(job.spec, failures), retry.Fail):
            break
        if not _wait_for_retry(number, result, decision.delay_seconds, listen, stop):
            break
    finished = result.finished(total=time.monotonic() - started)
    listen(finished)
    return finished


def _run_until(stop: StopSignal, attempt: Attempt) -> AttemptResult:
    """Runs the attempt; ends it when `stop` is set."""
    over = threading.Event()

    def watch() -> None:
        stop.wait()
        if not over.is_set():
            attempt.stop(stop.signal_number)

    threading.Thread(target=watch, name="stop", daemon=True).start()
    try:
        return attempt.run()
    finally:
        over.set()


def _wait_for_retry(number: int, result: AttemptResult, delay: float, listen: Listener, stop: StopSignal) -> bool:
    reason = result.outcome.message.splitlines()[0]
    listen(
        Notice(
            message=f"attempt {number} failed ({result.outcome.reason}: {reason}); the next one starts in {delay:.0f} s"
        )
    )
    return not stop.wait(delay)


def _with_options(job: TrainingJob, options: LocalOptions) -> TrainingJob:
    spec = job.spec
    if options.workers is not None:
        fewest = min(spec.workers.min_replicas, options.workers)
        spec = msgspec.structs.replace(
            spec, workers=msgspec.structs.replace(spec.workers, replicas=options.workers, min_replicas=fewest)
        )
    if options.args is not None and spec.runner is not None:
        spec = msgspec.structs.replace(spec, runner=msgspec.structs.replace(spec.runner, args=options.args))
    metadata = msgspec.structs.replace(job.metadata, uid=job.metadata.uid or str(uuid.uuid4()))
    return msgspec.structs.replace(job, metadata=metadata, spec=spec)


def _one_at_a_time(listener: Listener) -> Listener:
    lock = threading.Lock()

    def listen(event: Event) -> None:
        with lock:
            listener(event)

    return listen
