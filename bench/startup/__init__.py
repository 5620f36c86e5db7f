"""Benchmark of how fast a job starts, ends and is gone on Kubernetes, against dask-kubernetes' DaskJob."""
