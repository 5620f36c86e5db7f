"""The tables of jobs in tests/data: bad ones with their problems, changes, and good ones."""

from __future__ import annotations

from pathlib import Path

import yaml

from dask_training.model.documents import read_documents

DATA = Path(__file__).parents[1] / "data"


def merged(base, patch):
    """A merge patch, as RFC 7386 has it: null takes a field away."""
    if not isinstance(patch, dict):
        return patch
    base = base if isinstance(base, dict) else {}
    kept = {key: value for key, value in base.items() if key not in patch}
    return kept | {key: merged(base.get(key), value) for key, value in patch.items() if value is not None}


BAD = yaml.safe_load((DATA / "bad_jobs.yaml").read_text())
UPDATES = yaml.safe_load((DATA / "updates.yaml").read_text())["updates"]
GOOD = [document.value for document in read_documents((DATA / "good_jobs.yaml").read_text(), source="good_jobs.yaml")]
