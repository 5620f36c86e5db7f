"""What of a folder `ArtifactStore.store` would refuse, so that all else can be kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dask_training.artifacts.collect import source_of
from dask_training.artifacts.names import check_name
from dask_training.artifacts.tree import Tree
from dask_training.errors import UnsafeNameError


def refused(folder: Path) -> dict[str, str]:
    """The files (and links) below `folder` that can't be stored, each with the reason."""
    tree = Tree(folder)
    found: dict[str, str] = {}
    for path, status in _files(folder):
        try:
            check_name(path)
            source_of(tree, path, status)
        except UnsafeNameError as error:
            found[path] = str(error)
    return found


def over_limit(folder: Path, limit_bytes: int) -> list[str]:
    """The largest files below `folder`, so many that the rest is not more than `limit_bytes`."""
    sizes = {path: status.st_size for path, status in _files(folder)}
    total = sum(sizes.values())
    left_out = []
    for path in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= limit_bytes:
            break
        total -= sizes[path]
        left_out.append(path)
    return left_out


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and lstat of everything below `folder` that is not a folder itself; links to folders are no folders."""
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        for name in (*files, *links):
            path = Path(where, name)
            try:
                yield str(path.relative_to(folder)), path.lstat()
            except FileNotFoundError:  # removed since it was listed
                continue
