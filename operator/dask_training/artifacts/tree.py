"""Files below one folder, reached without ever following a link below it, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from dask_training.artifacts.names import shown
from dask_training.errors import UnsafeNameError

TEMPORARY_PREFIX = ".dask-training-"
TEMPORARY_SUFFIX = ".tmp"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The files below `root`; paths are relative, with `/`, and already checked by `check_name`.

    `root` itself may be reached through links: whoever named it meant that place. Everything below is opened
    component by component with O_NOFOLLOW, so that a link made there, even at the same moment, leads nowhere.
    Raises OSError as the system gives it, and UnsafeNameError for a link or a special file in the way.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._touched: set[str] = set()
        self._lock = threading.Lock()

    def make_root(self) -> None:
        """Make `root` and its parents, and remember them for `sync_folders`."""
        if self.root.is_dir():
            return
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)

    def open_file(self, path: str) -> int:
        """A descriptor to read the regular file at `path`; the caller closes it."""
        with self._parent(path) as (folder, name):
            try:
                # O_NONBLOCK: a FIFO put in the file's place must not block us before fstat finds it out.
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except OSError as error:
                raise _link_refused(error, path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafeNameError(f"{shown(path)} in {self.root} is not a regular file")
        return descriptor

    @contextlib.contextmanager
    def replace(self, path: str) -> Iterator[AtomicFile]:
        """A file to write that takes `path`'s place at the end of the block, durably; on an error nothing is left."""
        with self._parent(path, make=True) as (folder, name), AtomicFile(folder, name) as file:
            yield file
        with self._lock:
            self._touched.add(path.rpartition("/")[0])

    def remove(self, path: str) -> bool:
        """Remove the file at `path`; False if there was none."""
        try:
            with self._parent(path) as (folder, name):
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            return False
        return True

    def sync_folders(self) -> None:
        """Make the names of all files written since the last call durable: once per folder, not once per file."""
        with self._lock:
            touched = set(self._touched)
        folders = {""} if touched else set()
        for path in touched:
            parts = path.split("/") if path else []
            folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        for path in sorted(folders):
            with self._folder(path) as folder:
                os.fsync(folder)
        with self._lock:  # not before: after an error the next call has to do them all
            self._touched -= touched

    def sweep(self, path: str) -> None:
        """Remove the temporary files that a killed writer left below the folder `path`."""
        with contextlib.suppress(FileNotFoundError), self._folder(path) as top:
            for _, _, files, folder in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in files:
                    if name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)

    def entries(self, path: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the regular files directly in the folder `path`; both empty if there is none."""
        folders: list[str] = []
        files: list[str] = []
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._folder(path) as top,
            os.scandir(top) as found,
        ):
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
        return sorted(folders), sorted(files)

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        folder, _, name = path.rpartition("/")
        with self._folder(folder, make=make) as descriptor:
            yield descriptor, name

    @contextlib.contextmanager
    def _folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        # The root's own links are followed, hence no O_NOFOLLOW here.
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in path.split("/") if path else ():
                inner = _open_folder(part, descriptor, path, make=make)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


class AtomicFile:
    """A file under a temporary name in the folder where it will be; renamed at the end of a block without an error.

    With None as its name it is removed instead: for trying whether a file can be written at all.
    """

    def __init__(self, folder: int, name: str | None) -> None:
        self._folder = folder
        self._name = name
        self._temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        self._descriptor = -1

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o666, dir_fd=self._folder)
        return self

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            try:
                if kind is None:
                    os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)
            if kind is None and self._name is not None:
                os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self._discard()
            raise
        if kind is not None or self._name is None:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # the first error is the one to tell; `sweep` takes what is left
            os.unlink(self._temporary, dir_fd=self._folder)


def _open_folder(name: str, parent: int, path: str, *, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as error:
        raise _link_refused(error, path) from error
    with contextlib.suppress(FileExistsError):  # another thread was faster
        os.mkdir(name, dir_fd=parent)
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise _link_refused(error, path) from error


def _link_refused(error: OSError, path: str) -> OSError | UnsafeNameError:
    # O_NOFOLLOW with O_DIRECTORY says ENOTDIR for a link; a plain file in a folder's place says so, too.
    if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
        return UnsafeNameError(f"{shown(path)} leads through a link or a special file, which is not followed")
    return error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
