"""Benchmark of our joblib backend against joblib's own Dask backend, loky and threads."""
