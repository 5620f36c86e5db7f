"""Keeping what a run leaves behind: files in a store, each whole or not at all, and a manifest of what is there."""

from __future__ import annotations

from dask_training.artifacts.layout import key_prefix, local_key_prefix
from dask_training.artifacts.manifest import Manifest, ManifestEntry
from dask_training.artifacts.names import check_name
from dask_training.artifacts.refusals import over_limit, refused
from dask_training.artifacts.store import ArtifactStore, RunSummary, manifest_of

__all__ = [
    "ArtifactStore",
    "Manifest",
    "ManifestEntry",
    "RunSummary",
    "check_name",
    "key_prefix",
    "local_key_prefix",
    "manifest_of",
    "over_limit",
    "refused",
]
