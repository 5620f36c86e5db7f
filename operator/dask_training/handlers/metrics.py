"""What the operator tells Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dask_training.api import Phase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=False)
        self.jobs = Gauge("dasktraining_jobs", "Jobs that exist, by phase.", ["phase"], registry=registry)
        self.finished = Counter(
            "dasktraining_jobs_finished",
            "Jobs that ended, by phase and reason.",
            ["phase", "reason"],
            registry=registry,
        )
        self.startup = Histogram(
            "dasktraining_startup_seconds",
            "From a job's creation until its script runs.",
            buckets=(1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self.reconcile = Histogram(
            "dasktraining_reconcile_seconds",
            "One look at one job, with its writes.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.errors = Counter(
            "dasktraining_reconcile_errors", "Looks at a job that failed and come again.", registry=registry
        )
        self.reaction = Histogram(
            "dasktraining_queue_seconds",
            "How long a job waited to be looked at.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.depth = Gauge("dasktraining_queue_depth", "Jobs that wait to be looked at.", registry=registry)
        self.requests = Counter(
            "dasktraining_api_requests",
            "Requests to the Kubernetes API, watches apart; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.leader = Gauge("dasktraining_leader", "1 where this replica works, 0 where it waits.", registry=registry)

    def request(self, verb: str, resource: str, status: int) -> None:
        """Count a request to the Kubernetes API."""
        self.requests.labels(verb, resource, str(status)).inc()

    def phases(self, counts: Mapping[str, int]) -> None:
        """Say how many jobs are in each phase; a job without one is pending."""
        for phase in Phase:
            self.jobs.labels(phase.value).set(counts.get(phase.value, 0))

    def render(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self._registry)
