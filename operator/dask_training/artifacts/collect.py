"""What of a folder will be stored: every regular file, with names that are safe anywhere.

Links: one to a regular file inside the folder is stored as that file's content under the link's name (people link
`best.joblib` to one of many checkpoints). Links out of the folder, to a folder, or to nothing are refused.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dask_training.artifacts.manifest import MAX_FILES
from dask_training.artifacts.names import MANIFEST, MAX_KEY_BYTES, check_name, shown
from dask_training.artifacts.tree import Tree
from dask_training.errors import ArtifactError, SizeLimitError, UnsafeNameError

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class VanishedError(ArtifactError):
    """A file was removed between `collect` and its upload; it is then not a part of what the run keeps."""


class Source(NamedTuple):
    """A file to be stored as `path`; its content is read from `real_path` of the tree, which differs for a link.

    `size` is what it had when collected. No more is read: so a file that still grows can neither pass the size limit
    nor keep its upload from ending.
    """

    tree: Tree
    path: str
    real_path: str
    size: int

    @contextlib.contextmanager
    def open(self) -> Iterator[SourceReader]:
        """Its content, from the start. Raises VanishedError if it is gone, ArtifactError if it can't be read."""
        try:
            descriptor = self.tree.open_file(self.real_path)
        except FileNotFoundError as error:
            raise VanishedError(self.path) from error
        except OSError as error:
            raise _unreadable(self.tree, self.path, error) from error
        try:
            yield SourceReader(self, descriptor)
        finally:
            os.close(descriptor)


class SourceReader:
    """Reads a source once, at most the size it had when collected."""

    def __init__(self, source: Source, descriptor: int) -> None:
        self._source = source
        self._descriptor = descriptor
        self._left = source.size

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end. Raises ArtifactError if they can't be read."""
        wanted = min(size, self._left)
        parts = []
        while wanted:
            try:
                part = os.read(self._descriptor, wanted)
            except OSError as error:
                raise _unreadable(self._source.tree, self._source.path, error) from error
            if not part:
                self._left = 0  # it was cut meanwhile
                break
            parts.append(part)
            wanted -= len(part)
            self._left -= len(part)
        return b"".join(parts)


def collect(folder: Path, *, size_limit_bytes: int | None = None) -> list[Source]:
    """All files of `folder` that will be stored, sorted by path; empty folders are not kept.

    Raises UnsafeNameError for a name that no store must be given, a link as described above, a special file, or a
    manifest.json of the folder's own; SizeLimitError for more than `size_limit_bytes` (None: no limit) or 100,000
    files; ArtifactError for what can't be read.
    """
    tree = Tree(folder)
    if not folder.is_dir():
        raise ArtifactError(f"can't store {folder}: there is no such folder")
    sources: list[Source] = []
    total = 0
    for path, status in _walk(tree):
        source = source_of(tree, path, status)
        if source is None:
            continue
        sources.append(source)
        total += source.size
        if len(sources) > MAX_FILES:
            raise SizeLimitError(
                f"{folder} has more than {MAX_FILES} files, which is the most that one run can keep: "
                "write fewer, larger files, or delete what isn't needed before the script ends"
            )
    if size_limit_bytes is not None and total > size_limit_bytes:
        largest = max(sources, key=lambda source: source.size)
        raise SizeLimitError(
            f"the {len(sources)} files in {folder} have {total} bytes, the limit is {size_limit_bytes} "
            f"(spec.artifacts.sizeLimit); the largest is {shown(largest.path)} with {largest.size} bytes: "
            "keep less, or raise the limit"
        )
    return sorted(sources, key=lambda source: source.path)


def _walk(tree: Tree) -> Iterator[tuple[str, os.stat_result]]:
    """Path and lstat of everything below the root that is not a folder; a folder that can't be listed is an error."""

    def failed(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):  # removed since it was listed
            return
        raise _unreadable(tree, os.fsdecode(error.filename or "."), error) from error

    # The top by its real path, since fwalk without follow_symlinks refuses a top that is a link.
    for where, folders, files, descriptor in os.fwalk(
        os.path.realpath(tree.root), onerror=failed, follow_symlinks=False
    ):
        below = os.path.relpath(where, os.path.realpath(tree.root))
        base = "" if below == "." else f"{below}/"
        for name in (*folders, *files):
            try:
                status = os.lstat(name, dir_fd=descriptor)
            except FileNotFoundError:  # removed since it was listed
                continue
            # A folder's name matters only if there is a file in it, whose path then has it.
            if not stat.S_ISDIR(status.st_mode):
                yield _checked(tree, base + name), status
            elif len(os.fsencode(base + name)) > MAX_KEY_BYTES:
                _checked(tree, base + name)  # refused here, for the walk itself must not go ever deeper


def _checked(tree: Tree, path: str) -> str:
    try:
        return check_name(path)
    except UnsafeNameError as error:
        raise UnsafeNameError(f"{error} (in {tree.root})") from None


def source_of(tree: Tree, path: str, status: os.stat_result) -> Source | None:
    """What to store for `path`; raises UnsafeNameError for what must not be."""
    if path.split("/", 1)[0] == MANIFEST:
        raise UnsafeNameError(
            f"{tree.root} has a {MANIFEST} of its own, a name that is reserved for the list of kept files: "
            "write yours under another name"
        )
    if stat.S_ISREG(status.st_mode):
        return Source(tree, path, path, status.st_size)
    if stat.S_ISLNK(status.st_mode):
        return _linked(tree, path)
    kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "a special file")
    raise UnsafeNameError(f"{shown(path)} in {tree.root} is {kind}, only regular files can be kept: remove it")


def _linked(tree: Tree, path: str) -> Source | None:
    root = os.path.realpath(tree.root)
    status = None
    target = root
    # Errors: nothing is there, the way leads through a file as if it were a folder, or it changes at this moment.
    with contextlib.suppress(OSError):
        target = os.path.realpath(f"{root}/{path}")
        status = os.lstat(target)
    if os.path.commonpath([root, target]) != root:
        raise UnsafeNameError(
            f"{shown(path)} in {tree.root} is a link that leads out of the folder: copy the file into it instead"
        )
    if status is None:
        raise UnsafeNameError(f"{shown(path)} in {tree.root} is a link to nothing: remove it")
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeNameError(
            f"{shown(path)} in {tree.root} is a link to something else than a regular file: copy its content instead"
        )
    real_path = _checked(tree, os.path.relpath(target, root))
    # What is opened later is the target, again without following links: changing the link now has no effect.
    return Source(tree, path, real_path, status.st_size)


def _unreadable(tree: Tree, path: str, error: OSError) -> ArtifactError:
    return ArtifactError(f"can't read {shown(path)} in {tree.root}: {error.strerror or error}")
