"""The objects of an attempt, as Kubernetes manifests: pure, a fresh dict each time."""

from dask_training.manifests.secrets import SecretRequest, scheduler_token

__all__ = ["SecretRequest", "scheduler_token"]
