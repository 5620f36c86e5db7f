"""What to do about the likeliest mistakes, where the command line is the first to see them."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

_DASK_KUBERNETES = re.compile(r"^apiVersion:\s*kubernetes\.dask\.org/|^kind:\s*Dask(?:Job|Cluster)\s*$", re.MULTILINE)
_PYTHON = re.compile(r"\A\s*(?:#!.*python|import \w|from \w[\w.]* import )")


def no_such_file(path: Path) -> str:
    """For a job file that does not exist."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    if near:
        return f"no such file: {path}; did you mean {path.parent / near[0]}?"
    if not path.parent.is_dir():
        return f"no such file: {path}; there is no folder {path.parent} either"
    return f"no such file: {path}"


def folder_given(path: Path) -> str:
    """For a folder where a job file is expected."""
    jobs = sorted(entry for entry in path.iterdir() if entry.suffix in {".yaml", ".yml"})
    if len(jobs) == 1 or (path / "job.yaml") in jobs:
        return f"{path} is a folder; did you mean {path / 'job.yaml' if (path / 'job.yaml') in jobs else jobs[0]}?"
    return f"{path} is a folder; give the job file in it"


def script_given(path: Path) -> str:
    """For a Python script where a job file is expected."""
    return (
        f"{path} is a Python script, not a job file. Did you mean to write a job file for it first?\n"
        f"  dask-training init {path} -o {path.with_suffix('.yaml')}\n"
        f"  dask-training run {path.with_suffix('.yaml')}"
    )


def notebook_given(path: Path) -> str:
    """For a notebook where a script or job file is expected."""
    return f"{path} is a notebook; make a script of it first: jupyter nbconvert --to script {path}"


def for_job_text(text: str) -> str:
    """For a job file that is not valid; "" where there is nothing to add to its problems."""
    if _DASK_KUBERNETES.search(text):
        return (
            "That is a job for dask-kubernetes' operator. Take its script and let\n"
            "  dask-training init train.py -o job.yaml\n"
            "write a job file for this one."
        )
    if _PYTHON.search(text):
        return "This looks like Python; 'dask-training init' writes a job file for a script."
    return ""
