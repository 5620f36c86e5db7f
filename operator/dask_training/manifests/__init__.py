"""The objects of an attempt, as Kubernetes manifests: pure, a fresh dict each time."""

from dask_training.manifests.attempt import Attempt, selector, workers_selector
from dask_training.manifests.network import (
    engines_network_policy,
    engines_service,
    network_policy,
    runner_service,
    scheduler_service,
)
from dask_training.manifests.pods import engine_pod, reader_pod, runner_pod, scheduler_pod, store_url, worker_pod
from dask_training.manifests.secrets import SecretRequest, job_document, scheduler_token, secret_request, session_status

__all__ = [
    "Attempt",
    "SecretRequest",
    "engine_pod",
    "engines_network_policy",
    "engines_service",
    "job_document",
    "network_policy",
    "reader_pod",
    "runner_pod",
    "runner_service",
    "scheduler_pod",
    "scheduler_service",
    "scheduler_token",
    "secret_request",
    "selector",
    "session_status",
    "store_url",
    "worker_pod",
    "workers_selector",
]
