"""Train scikit-learn models on Dask clusters of their own."""

from dask_training.runner.script_api import artifacts_dir, client, report

__all__ = ["__version__", "artifacts_dir", "client", "report"]
__version__ = "0.1.0"
