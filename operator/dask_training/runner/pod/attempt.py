"""The runner's pod: it supervises the child that runs the user's code, and keeps what is left of it."""

from __future__ import annotations

import datetime
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import distributed  # noqa: F401 - before the fork, so that the child has it too
import msgspec

from dask_training.api import Env, Phase
from dask_training.costs import Prices
from dask_training.model import TrainingJob
from dask_training.runner import child
from dask_training.runner.attempt_record import AttemptRecord, reserved_by
from dask_training.runner.cgroup import oom_kills
from dask_training.runner.code import SCRIPT_NAME, child_config, name_of, runner_of, startup_timeout
from dask_training.runner.early_advice import EarlyAdvice
from dask_training.runner.events import Event, MetricsReported, Notice, PhaseChanged, Progress
from dask_training.runner.forked import Forked, fork, leave
from dask_training.runner.installing import install
from dask_training.runner.keeping import Kept
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.pod import last_word, setup
from dask_training.runner.pod.clusters import cluster_of
from dask_training.runner.pod.link import Link
from dask_training.runner.pod.news import JobProgress
from dask_training.runner.pod.paths import PodPaths
from dask_training.runner.pod.store import PodStore
from dask_training.runner.supervisor import (
    ChildCommand,
    ClusterFailed,
    Limits,
    StopRequested,
    StoreFailed,
    Supervisor,
)
from dask_training.runner.telemetry import ClusterReport
from dask_training.runner.verdict import Outcome, OutOfMemory
from dask_training.runner.versions import Comparison, explained
from dask_training.runner.workspace import Workspace
from dask_training.termination import Spent, StoredArtifacts, Termination, Versions

_PROBES = 10  # for the scheduler: one that is gone refuses at once, a busy one may need more than the second of each
_CHILD_GRACE_SECONDS = 3.0  # of the 30 that the kubelet gives to the runner's pod; the rest is for what is kept


class PodAttempt:
    """One attempt, in the pod that was made for it; `run` is called once. `began` is monotonic."""

    def __init__(self, job: TrainingJob, paths: PodPaths, *, began: float) -> None:
        self._job = job
        self._paths = paths
        self._began = began
        self._number = int(os.environ.get(Env.ATTEMPT, "1"))
        self._cluster = cluster_of(job, os.environ[Env.SCHEDULER_ADDRESS], paths)
        paths.job.mkdir(parents=True, exist_ok=True)
        self._workspace = Workspace(paths.job)
        self._lifeline = Lifeline()
        self._oom_kills = oom_kills(paths.root)
        self._link: Link | None = None
        self._store: PodStore | None = None
        self._reports: threading.Thread | None = None
        self._told_to_end = threading.Event()
        self._report = ClusterReport()
        self._comparison: Comparison | None = None
        first_started = min(began, _monotonic(os.environ.get(Env.FIRST_STARTED)) or began)
        about = self._cluster.about_workers
        limits = Limits.of(job, started=began, first_started=first_started, about_workers=about)
        self._early = EarlyAdvice(job, self._listen, self._has_worked)
        self._supervisor = Supervisor(
            limits,
            self._early,
            attempt=self._number,
            surroundings=self,
            on_versions=self._compare,
            child_grace=_CHILD_GRACE_SECONDS,
        )

    def run(self) -> int:
        """Runs the attempt to its end, writes the termination message and returns the code to exit with."""
        wanted = setup.packages_to_install(self._paths)
        forked = self._fork() if wanted is None else None  # before there is any thread
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        self._store = PodStore(self._job, self._number, self._workspace, self._paths, self._listen)
        outcome = None
        if wanted is not None:
            outcome = install(wanted, self._supervisor, self._workspace, self._lifeline, env=os.environ, echo=True)
        if outcome is None:
            outcome = self._run_code(forked) if forked is not None else None
        if outcome is None:
            setup.start_again(self._paths, "runner")
        return self._finish(outcome)

    # Told and asked by the supervisor.

    def code_ended(self) -> None:
        """Begins to fetch the reports, which takes as long as the process takes to end."""
        if self._reports is None:
            self._reports = threading.Thread(target=self._fetch_reports, name="reports", daemon=True)
            self._reports.start()

    def cluster_failure(self) -> Outcome | None:
        """The outcome if nothing answers where the scheduler was."""
        return None if self._cluster.answers(probes=_PROBES) else self._cluster.lost

    def out_of_memory(self) -> OutOfMemory | None:
        """Whether the kernel killed anything in this container since it began."""
        return last_word.out_of_memory("runner") if oom_kills(self._paths.root) > self._oom_kills else None

    def _compare(self, versions: Mapping[str, str]) -> None:
        assert self._link is not None  # noqa: S101 - made before the code is started
        self._comparison = Comparison(versions, cluster=self._cluster.title, fix=self._cluster.same_versions)
        self._link.compare(self._comparison, self._versions_differ)

    def _has_worked(self) -> bool | None:
        return self._link.has_worked() if self._link else None

    def _versions_differ(self, summary: str) -> None:
        assert self._link is not None  # noqa: S101 - it is who calls
        self._link.tell(versions=summary)
        self._listen(Notice(message=summary))

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._told_to_end.set()
        self._supervisor.post(StopRequested(number))

    def _fork(self) -> Forked | None:
        config = self._workspace.root / "child.json"
        told = child_config(self._job, script=self._script(), address_file=None, code=self._paths.code)
        config.write_bytes(msgspec.json.encode(told))
        env = {Env.ARTIFACTS_DIR: str(self._workspace.artifacts), "PYTHONUNBUFFERED": "1"}
        forked = fork(env, cwd=self._workspace.work, lifeline=self._lifeline)
        if forked is None:
            setup.use_code(self._paths)
            sys.argv = [child.__file__, str(config)]
            try:
                child.main()
            except SystemExit as ended:
                leave(ended.code if isinstance(ended.code, int) else 1)
        return forked

    def _script(self) -> Path | None:
        """Where the job's script is, if it has one."""
        runner = runner_of(self._job)
        if runner.script_from is not None:
            return self._paths.script / runner.script_from.config_map.key
        if runner.script is None:
            return None
        path = self._workspace.script / SCRIPT_NAME
        path.write_text(runner.script, newline="")
        return path

    def _run_code(self, forked: Forked) -> Outcome:
        self._link = self._cluster.link(
            self._supervisor.workers_seen,
            lambda: self._supervisor.post(ClusterFailed(self._cluster.lost)),
            timeout=startup_timeout(self._job),
        )
        for sentence in self._cluster.notices:
            self._listen(Notice(message=sentence))
        store = self._store
        assert store is not None  # noqa: S101 - made before
        store.check(lambda outcome: self._supervisor.post(StoreFailed(outcome)))
        log = LogFile(self._workspace.logs / "runner.log")
        command = ChildCommand(forked, env={}, cwd=self._workspace.work, what=name_of(self._job), log=log, echo=True)
        outcome = self._supervisor.run(command, self._lifeline, lambda _: None)
        log.close()
        return outcome

    def _listen(self, event: Event) -> None:
        if isinstance(event, Notice):
            os.write(2, f"[dask-training] {event.message}\n".encode())
        if self._link is None:
            return
        if isinstance(event, PhaseChanged) and event.phase is Phase.RUNNING:
            self._link.tell(code_started=True)
        elif isinstance(event, Progress):
            self._link.tell(progress=JobProgress(event.done, event.total))
        elif isinstance(event, MetricsReported):
            self._link.tell(metrics=_numbers(event.metrics))

    def _finish(self, outcome: Outcome) -> int:
        ended = time.monotonic()
        self._early.close()
        if not self._told_to_end.is_set():
            self.code_ended()
            assert self._reports is not None  # noqa: S101 - code_ended makes it
            while self._reports.is_alive() and not self._told_to_end.is_set():
                self._reports.join(0.1)
        hurried = self._told_to_end.is_set()
        outcome = explained(outcome, self._comparison)
        assert self._store is not None  # noqa: S101 - made first of all
        outcome, kept = self._store.keep(outcome, self._supervisor.metrics, self._record(ended), hurried=hurried)
        for advice in kept.advice:
            self._listen(Notice(message=f"advice: {advice.message} -> {advice.fix}"))
        self._say(outcome, kept, ended)
        if self._link is not None and self._cluster.answers():
            self._link.say_goodbye()
        os._exit(outcome.exit_code)  # threads that wait for the cluster are not waited for

    def _record(self, ended: float) -> AttemptRecord:
        running_since, lived = self._supervisor.running_since, time.monotonic() - self._began
        prices = Prices.read(os.environ.get(Env.PRICES, ""))
        return AttemptRecord(
            started=time.time() - lived,
            startup=(running_since or ended) - self._began,
            script=ended - running_since if running_since else None,
            report=self._report,
            joblib=self._supervisor.joblib,
            restarts=self._supervisor.worker_restarts,
            killed_for_memory=self._supervisor.killed_for_memory,
            resources=reserved_by(self._job.spec, self._report.facts, lived),
            prices=prices,
        )

    def _fetch_reports(self) -> None:
        if self._link is None:
            return
        self._report = self._link.write_reports(
            self._workspace.reports, reachable=self._cluster.answers(probes=_PROBES)
        )
        self._link.write_logs(self._workspace.logs)

    def _compared(self) -> Versions | None:
        found = self._comparison
        return Versions(workers=found.workers, differences=found.summary) if found and found.workers else None

    def _say(self, outcome: Outcome, kept: Kept, ended: float) -> None:
        supervisor, stored = self._supervisor, kept.stored
        running_since = supervisor.running_since
        termination = Termination(
            reason=outcome.reason,
            message=outcome.message,
            succeeded=outcome.succeeded,
            exit_code=outcome.exit_code,
            script_exit_code=outcome.script_exit_code,
            metrics=_numbers(kept.metrics),
            artifacts=StoredArtifacts(
                url=stored.url, files=stored.files, bytes=stored.bytes, manifest_sha256=stored.manifest_sha256
            )
            if stored
            else None,
            timings=Spent(
                starting=round((running_since or ended) - self._began, 3),
                running=round(ended - running_since, 3) if running_since else 0.0,
                finalizing=round(time.monotonic() - ended, 3),
            ),
            worker_restarts=supervisor.worker_restarts,
            tasks=supervisor.tasks,
            versions=self._compared(),
            advice=kept.advice,
        )
        last_word.write(self._paths, termination)


def _numbers(metrics: dict[str, object] | object) -> dict[str, float]:
    assert isinstance(metrics, dict)  # noqa: S101 - for the type checker
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _monotonic(time_text: str | None) -> float | None:
    """The monotonic time of an RFC 3339 time; None if there is none."""
    if not time_text:
        return None
    then = datetime.datetime.fromisoformat(time_text)
    return time.monotonic() - (datetime.datetime.now(datetime.UTC) - then).total_seconds()
