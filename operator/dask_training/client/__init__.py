"""Jobs on a Kubernetes cluster, from outside it: submit, watch, read logs, fetch artifacts. Synchronous."""

from dask_training.client.jobs import JobHandle, TrainingClient

__all__ = ["JobHandle", "TrainingClient"]
