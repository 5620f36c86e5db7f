"""The Kubernetes API server, for the operator: requests, what they may answer, and which of them it may make.

The only package of the operator that imports `kubernetes`.
"""

from dask_training.kube.client import KubeClient, owners
from dask_training.kube.connection import Connection, NoClusterError
from dask_training.kube.limits import Limits, TokenBucket
from dask_training.kube.resources import Resource

__all__ = ["Connection", "KubeClient", "Limits", "NoClusterError", "Resource", "TokenBucket", "owners"]
