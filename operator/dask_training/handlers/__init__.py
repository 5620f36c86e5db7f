"""The operator's process: what it watches, when it looks at a job, and how it carries out what was decided.

`python -m dask_training.handlers` runs it. The only package that imports kopf.
"""
