"""What is to be done for a job, decided from what is there: pure, the clock is an argument."""

from dask_training.manifests.secrets import SecretRequest
from dask_training.reconcile.actions import Delete, JobEvent, Plan, WriteStatus, stages
from dask_training.reconcile.plan import plan, plan_body

__all__ = ["Delete", "JobEvent", "Plan", "SecretRequest", "WriteStatus", "plan", "plan_body", "stages"]
