"""What an attempt knows of itself at its end, and the summary that is made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from dask_training.api import Role
from dask_training.costs import Amounts, Prices, ResourceSeconds
from dask_training.model import Spec, TrainingJob
from dask_training.model.reserved import reserved
from dask_training.runner.advisor import advise
from dask_training.runner.events import MetricValue
from dask_training.runner.run_summary import (
    AttemptSummary,
    BytesMoved,
    ClusterFacts,
    JobIdentity,
    JoblibWork,
    Timings,
    WorkersUsed,
    timestamp,
)
from dask_training.runner.telemetry import ClusterReport
from dask_training.runner.verdict import Outcome

RESERVED = "reserved"
USED = "used"


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """An attempt beside how its code ended; times in seconds, `started` (since the epoch) when it began.

    `resources` are those that were `basis`: "reserved" or "used". `peak_worker_memory` in bytes, where it is known
    better than the cluster knew it. `killed_for_memory` counts the workers that were.
    """

    started: float
    startup: float
    script: float | None = None
    report: ClusterReport = field(default_factory=ClusterReport)
    joblib: JoblibWork | None = None
    restarts: int = 0
    killed_for_memory: int = 0
    resources: ResourceSeconds = field(default_factory=ResourceSeconds)
    basis: str = RESERVED
    peak_worker_memory: int | None = None
    prices: Prices | None = None

    def summary(
        self, job: TrainingJob, attempt: int, outcome: Outcome, metrics: Mapping[str, MetricValue]
    ) -> AttemptSummary:
        """The attempt's summary.json, as of now, with advice on it."""
        summary = self._summary(job, attempt, outcome, metrics)
        return msgspec.structs.replace(summary, advice=advise(summary, job, killed_for_memory=self.killed_for_memory))

    def _summary(
        self, job: TrainingJob, attempt: int, outcome: Outcome, metrics: Mapping[str, MetricValue]
    ) -> AttemptSummary:
        now, facts, workers = time.time(), self.report.facts, job.spec.workers
        return AttemptSummary(
            job=JobIdentity(name=job.name, namespace=job.namespace, uid=job.metadata.uid, attempt=attempt),
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            start_time=timestamp(self.started),
            completion_time=timestamp(now),
            timings=Timings(
                startup=round(self.startup, 3),
                script=None if self.script is None else round(self.script, 3),
                total=round(now - self.started, 3),
            ),
            workers=WorkersUsed(
                replicas=workers.replicas,
                threads=workers.nthreads,
                memory_limit=workers.resources.memory_limit_bytes,
                restarts=self.restarts,
                lost=facts.lost if facts else None,
            ),
            tasks=facts.tasks if facts else None,
            moved=self._moved(facts),
            joblib=self.joblib,
            thread_seconds=facts.thread_seconds if facts else None,
            resource_seconds=self.resources,
            resource_basis=self.basis,
            cost=self.prices.cost_of(self.resources) if self.prices else None,
            metrics=dict(metrics),
        )

    def _moved(self, facts: ClusterFacts | None) -> BytesMoved | None:
        if facts is None:
            return None
        peaks = [peak for peak in (facts.moved.peak_worker_memory, self.peak_worker_memory) if peak]
        return msgspec.structs.replace(facts.moved, peak_worker_memory=max(peaks, default=None))


def reserved_by(spec: Spec, facts: ClusterFacts | None, runner_seconds: float) -> ResourceSeconds:
    """What an attempt's pods have reserved until now.

    All are made at once: where the scheduler can't be asked, its pods are taken to have run for as long as the runner.
    """
    by_role = {}
    if spec.cluster_ref is None:  # else scheduler and workers are somebody else's
        scheduler = facts.scheduler_seconds if facts else runner_seconds
        workers = facts.worker_seconds if facts else runner_seconds * spec.workers.replicas
        by_role["scheduler"] = Amounts().plus(reserved(Role.SCHEDULER, spec.scheduler.resources), scheduler)
        by_role["workers"] = Amounts().plus(reserved(Role.WORKER, spec.workers.resources), workers)
    if spec.runner is not None:
        by_role["runner"] = Amounts().plus(reserved(Role.RUNNER, spec.runner.resources), runner_seconds)
    return ResourceSeconds.of(by_role)
