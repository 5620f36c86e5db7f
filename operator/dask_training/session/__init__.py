"""Clusters for a session: a notebook, a pod, an interpreter. `launch_cluster` is the way in."""

from dask_training.session.cluster import TrainingCluster
from dask_training.session.launch import ClusterSummary, launch_cluster, list_clusters

__all__ = ["ClusterSummary", "TrainingCluster", "launch_cluster", "list_clusters"]
