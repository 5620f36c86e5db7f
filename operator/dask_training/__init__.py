"""Train scikit-learn models on Dask clusters of their own."""

__version__ = "0.1.0"
