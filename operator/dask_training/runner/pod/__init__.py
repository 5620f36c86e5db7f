"""The programs in a job's pods: `python -m dask_training.runner.pod scheduler|worker|runner|engine|reader`."""
