"""One attempt at a job: a cluster of its own, the code, what is kept of it, and nothing left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dask_training.api import Env, Phase, Reason
from dask_training.certificates import make_certificates
from dask_training.costs import Amounts, Prices, ResourceSeconds
from dask_training.local import environment
from dask_training.local.cluster import ClusterSize, LocalProcessCluster
from dask_training.local.destination import Destination
from dask_training.local.workspace import TemporaryWorkspace
from dask_training.model import JobFile, TrainingJob
from dask_training.runner import dask_environment
from dask_training.runner.attempt_record import USED, AttemptRecord
from dask_training.runner.code import child_config, name_of, runner_of, startup_timeout
from dask_training.runner.early_advice import EarlyAdvice
from dask_training.runner.events import ArtifactsStored, Finished, Listener, MetricValue, Notice, PhaseChanged, Timings
from dask_training.runner.installing import install
from dask_training.runner.keeping import Keeper, Kept
from dask_training.runner.lifeline import Lifeline
from dask_training.runner.logs import LogFile
from dask_training.runner.memory import MemoryWatch
from dask_training.runner.processes import RunProcess, kill_marked
from dask_training.runner.supervisor import ChildCommand, Limits, MemoryExceeded, StopRequested, Supervisor
from dask_training.runner.telemetry import ClusterReport, Telemetry
from dask_training.runner.verdict import Outcome, OutOfMemory
from dask_training.runner.versions import Comparison, explained
from dask_training.termination import Advice

_CERTIFICATE_SLACK_SECONDS = 3600.0
_SAME_VERSIONS = "All processes share this Python: see what spec.env and spec.runner.env put before it (PYTHONPATH)."


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """How an attempt ended, and what it used."""

    outcome: Outcome
    attempt: int
    timings: Timings
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_worker_memory_bytes: int | None = None
    worker_restarts: int = 0
    tasks: int = 0
    artifacts: ArtifactsStored | None = None
    advice: tuple[Advice, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether another attempt is out of the question."""
        return self.outcome.succeeded or self.outcome.reason in (Reason.INTERRUPTED, Reason.DEADLINE_EXCEEDED)

    def finished(self, *, total: float) -> Finished:
        """The run's last event, if this was its last attempt; `total` seconds were spent on all of them."""
        return Finished(
            phase=Phase.SUCCEEDED if self.outcome.succeeded else Phase.FAILED,
            reason=self.outcome.reason,
            message=self.outcome.message,
            exit_code=self.outcome.exit_code,
            script_exit_code=self.outcome.script_exit_code,
            attempt=self.attempt,
            timings=msgspec.structs.replace(self.timings, total=total),
            metrics=self.metrics,
            cpu_seconds=self.cpu_seconds,
            peak_worker_memory_bytes=self.peak_worker_memory_bytes,
            worker_restarts=self.worker_restarts,
            tasks=self.tasks,
            artifacts=self.artifacts,
            advice=self.advice,
        )


class Attempt:
    """One attempt; `run` is called once."""

    def __init__(
        self,
        number: int,
        job: TrainingJob,
        job_file: JobFile,
        workspace: TemporaryWorkspace,
        destination: Destination,
        listener: Listener,
        *,
        started: float,
        dashboard_port: int | None,
        code: Path | None,
        prices: Prices | None = None,
    ) -> None:
        self._number = number
        self._job = job
        self._job_file = job_file
        self._workspace = workspace
        self._listen = listener
        self._dashboard_port = dashboard_port
        self._code = code
        self._prices = prices
        self._began = time.monotonic()
        limits = Limits.of(job, started=self._began, first_started=started)
        self._early = EarlyAdvice(job, listener, self._has_worked)
        self._supervisor = Supervisor(limits, self._early, attempt=number, on_versions=self._compare)
        self._keeper = Keeper(
            job,
            number,
            workspace,
            listener,
            place=destination.place(number),
            fallback=destination.fallback_place(number),
        )
        self._lifeline = Lifeline()
        self._memory_watch = MemoryWatch()
        self._cluster: LocalProcessCluster | None = None
        self._telemetry: Telemetry | None = None
        self._comparison: Comparison | None = None

    def stop(self, signal_number: int) -> None:
        """Ends the attempt because of a signal; from any thread."""
        self._supervisor.post(StopRequested(signal_number))

    def run(self) -> AttemptResult:
        """Runs the attempt to its end."""
        try:
            outcome = self._check_store() or self._install_packages() or self._run_code()
            ended = time.monotonic()
            self._listen(PhaseChanged(phase=Phase.FINALIZING, message="keeping artifacts", attempt=self._number))
            outcome, kept = self._finalize(outcome, ended)
        finally:
            self._end_everything()
        return AttemptResult(
            outcome=outcome,
            attempt=self._number,
            timings=Timings(
                starting=self._startup_seconds(ended),
                running=self._script_seconds(ended),
                finalizing=time.monotonic() - ended,
            ),
            metrics=kept.metrics,
            cpu_seconds=sum(used.cpu for used in self._used().values()),
            peak_worker_memory_bytes=self._cluster.usage.peak_worker_memory_bytes if self._cluster else None,
            worker_restarts=self._supervisor.worker_restarts,
            tasks=self._supervisor.tasks,
            artifacts=kept.stored,
            advice=kept.advice,
        )

    def _check_store(self) -> Outcome | None:
        """A store that can't be written to is better known before the training than after it."""
        self._listen(PhaseChanged(phase=Phase.STARTING, message="checking the artifact store", attempt=self._number))
        return self._keeper.check()

    def _install_packages(self) -> Outcome | None:
        wanted = self._job.spec.packages
        if not wanted:
            return None
        self._listen(
            PhaseChanged(phase=Phase.STARTING, message=f"installing {', '.join(wanted)}", attempt=self._number)
        )
        env = dask_environment.without_dask(os.environ)
        return install(wanted, self._supervisor, self._workspace, self._lifeline, env=env)

    def _run_code(self) -> Outcome:
        workers = self._job.spec.workers
        self._listen(
            PhaseChanged(
                phase=Phase.STARTING,
                message=f"starting a scheduler and {workers.replicas} worker(s)",
                attempt=self._number,
            )
        )
        script = self._write_code()
        base = environment.of_all(self._job, self._job_file, self._workspace, self._number)
        self._make_certificates()
        timeout = startup_timeout(self._job)
        self._cluster = self._make_cluster(base, timeout)
        self._cluster.start()
        self._telemetry = Telemetry(
            self._workspace.address_file, self._workspace.tls, self._supervisor.workers_seen, timeout=timeout
        )
        log = LogFile(self._workspace.logs / "runner.log")
        command = ChildCommand(
            command=[sys.executable, "-m", "dask_training.runner.child", str(self._write_child_config(script))],
            env=environment.of_runner(base, self._job, self._job_file, self._workspace),
            cwd=self._workspace.work,
            what=name_of(self._job),
            log=log,
        )
        outcome = self._supervisor.run(command, self._lifeline, self._limit_runner_memory)
        self._early.close()
        log.close()
        return outcome

    def _compare(self, versions: Mapping[str, str]) -> None:
        assert self._telemetry is not None  # noqa: S101 - made before the code is started
        self._comparison = Comparison(versions, cluster="cluster", fix=_SAME_VERSIONS)
        self._telemetry.compare(self._comparison, lambda text: self._listen(Notice(message=text)))

    def _has_worked(self) -> bool | None:
        return self._telemetry.has_worked() if self._telemetry else None

    def _make_cluster(self, base: dict[str, str], timeout: float) -> LocalProcessCluster:
        workers = self._job.spec.workers
        size = ClusterSize(
            workers=workers.replicas,
            threads=workers.nthreads,
            memory_limit_bytes=workers.resources.memory_limit_bytes,
            startup_timeout=timeout,
            dashboard_port=self._dashboard_port if self._job.spec.scheduler.dashboard else None,
        )
        return LocalProcessCluster(
            size, self._workspace, base, self._lifeline, self._memory_watch, self._listen, self._supervisor.post
        )

    def _make_certificates(self) -> None:
        lifetime = self._job.spec.active_deadline_seconds + _CERTIFICATE_SLACK_SECONDS
        certificates = make_certificates(self._job.name, ("scheduler", "worker", "client"), lifetime_seconds=lifetime)
        dask_environment.write_certificates(certificates, self._workspace.tls)

    def _write_code(self) -> Path | None:
        """Puts the job's code in place; returns where the script is, if it has one."""
        spec = self._job.spec
        if self._code is not None:
            self._workspace.copy_code(self._code)
        elif spec.code is not None:
            self._workspace.write_code(self._job_file.config_maps[spec.code.config_map.name])
        script = environment.script_of(self._job, self._job_file)
        if script is None:
            return None
        name, text = script
        path = self._workspace.script / name
        path.write_text(text, newline="")
        return path

    def _write_child_config(self, script: Path | None) -> Path:
        path = self._workspace.root / "child.json"
        config = child_config(self._job, script=script, address_file=self._workspace.address_file)
        path.write_bytes(msgspec.json.encode(config))
        return path

    def _limit_runner_memory(self, child: RunProcess) -> None:
        limit = runner_of(self._job).resources.memory_limit_bytes
        if limit is not None:
            death = OutOfMemory("runner", limit, "spec.runner.resources.limits.memory")
            self._memory_watch.add(child, limit, lambda _: self._supervisor.post(MemoryExceeded(death)))

    def _startup_seconds(self, ended: float) -> float:
        return (self._supervisor.running_since or ended) - self._began

    def _script_seconds(self, ended: float) -> float | None:
        since = self._supervisor.running_since
        return ended - since if since else None

    def _used(self) -> dict[str, Amounts]:
        """What the processes that have ended have used."""
        by_role = dict(self._cluster.usage.by_role) if self._cluster else {}
        child = self._supervisor.child.exit if self._supervisor.child else None
        return {**by_role, "runner": Amounts().plus(child.used)} if child else by_role

    def _finalize(self, outcome: Outcome, ended: float) -> tuple[Outcome, Kept]:
        """Keeps what there is; the reports need the cluster, all else needs it gone."""
        hurried = outcome.reason is Reason.INTERRUPTED
        report = ClusterReport()
        if self._telemetry and not hurried:
            # Without the address there never was a scheduler.
            reachable = outcome.reason is not Reason.SCHEDULER_FAILED and self._workspace.address_file.exists()
            report = self._telemetry.write_reports(self._workspace.reports, reachable=reachable)
        self._end_cluster()
        record = AttemptRecord(
            started=time.time() - (time.monotonic() - self._began),
            startup=self._startup_seconds(ended),
            script=self._script_seconds(ended),
            report=report,
            joblib=self._supervisor.joblib,
            restarts=self._supervisor.worker_restarts,
            killed_for_memory=self._supervisor.killed_for_memory,
            resources=ResourceSeconds.of(self._used()),
            basis=USED,
            peak_worker_memory=self._cluster.usage.peak_worker_memory_bytes if self._cluster else None,
            prices=self._prices,
        )
        return self._keeper.keep(
            explained(outcome, self._comparison), self._supervisor.metrics, record, hurried=hurried
        )

    def _end_cluster(self) -> None:
        if self._telemetry:  # first, or it would try to reconnect
            self._telemetry.close()
        if self._cluster:
            self._cluster.close()

    def _end_everything(self) -> None:
        self._early.close()
        self._end_cluster()
        self._memory_watch.close()
        self._lifeline.close()
        kill_marked(Env.JOB_UID, self._job.metadata.uid)
