"""Packs the session's project for workers that run elsewhere: its Python and R files, as one zip file."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from dask_training.client.packing import CONFIG_MAP_BYTES
from dask_training.errors import CodeError

SUFFIXES = frozenset({".py", ".r"})
_MAX_FILES = 2000
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "artifacts", "build", "dist", "lost+found"})
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ADVICE = (
    "Start the session in a smaller folder, name one with configure(project=...), or send none with "
    "configure(project=False); larger code belongs into an image or a package."
)


def pack_script(folder: Path, script: str) -> bytes | None:
    """A zip file of *script* alone; None where there is none."""
    return _packed(folder, {script: folder / script}) if script else None


def pack_project(folder: Path, script: str) -> bytes:
    """A zip file of the .py and .R files of *folder*, sub-folders too, and of *script*.

    Raises CodeError if that is more than a ConfigMap holds (1 MiB packed) or more than 2000 files.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    if script:
        files[script] = folder / script
    return _packed(folder, files)


def _packed(folder: Path, files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), _read(path), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    if len(data) > CONFIG_MAP_BYTES:
        raise CodeError(
            f"the {len(files)} code files of {folder} have {len(data) / 1024**2:.1f} MiB packed: they are sent as a "
            f"ConfigMap, which holds 1 MiB at most. {_ADVICE}"
        )
    return data


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in sorted(folders) if _is_project(here / name)]
        for name in sorted(names):
            path = here / name
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                count += 1
                if count > _MAX_FILES:
                    raise CodeError(
                        f"{folder} has more than {_MAX_FILES} code files, which is no project to send along. {_ADVICE}"
                    )
                yield path


def _is_project(folder: Path) -> bool:
    if folder.name.startswith(".") or folder.name in _SKIPPED:
        return False
    return not (folder / "pyvenv.cfg").exists()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CodeError(f"can't read {path}: {error.strerror or error}") from error
