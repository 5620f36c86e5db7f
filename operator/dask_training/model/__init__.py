"""The job model: job files, checked against the CRD's own schema, as frozen values."""

from dask_training.model.job import Runner, Spec, TrainingJob, Workers
from dask_training.model.jobfile import JobFile, load_job_file
from dask_training.model.problems import JobFileError, Problem
from dask_training.model.quantity import parse_memory, parse_quantity
from dask_training.model.update_rules import check_update

__all__ = [
    "JobFile",
    "JobFileError",
    "Problem",
    "Runner",
    "Spec",
    "TrainingJob",
    "Workers",
    "check_update",
    "load_job_file",
    "parse_memory",
    "parse_quantity",
]
