"""The workloads of the blogs, by name, under joblib's backends and dask_ml's searches."""
