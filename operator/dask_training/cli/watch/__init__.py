"""What `dask-training run` shows of a run: the events of `dask_training.runner.events` in, text out."""
