"""What of a folder `ArtifactStore.store` would refuse, so that all else can be kept."""

from __future__ import annotations

import os
from pathlib import Path

from dask_training.artifacts.collect import source_of
from dask_training.artifacts.names import check_name
from dask_training.artifacts.tree import Tree
from dask_training.errors import UnsafeNameError


def refused(folder: Path) -> dict[str, str]:
    """The files (and links) below `folder` that can't be stored, each with the reason."""
    tree = Tree(folder)
    found: dict[str, str] = {}
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in (*files, *links):
            path = os.path.relpath(os.path.join(where, name), folder)
            try:
                check_name(path)
                source_of(tree, path, os.lstat(os.path.join(where, name)))
            except UnsafeNameError as error:
                found[path] = str(error)
            except FileNotFoundError:
                continue
    return found


def over_limit(folder: Path, limit_bytes: int) -> list[str]:
    """The largest files below `folder`, so many that the rest is not more than `limit_bytes`."""
    sizes = {
        os.path.relpath(os.path.join(where, name), folder): os.lstat(os.path.join(where, name)).st_size
        for where, _, files in os.walk(folder)
        for name in files
    }
    total = sum(sizes.values())
    left_out = []
    for path in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= limit_bytes:
            break
        total -= sizes[path]
        left_out.append(path)
    return left_out
