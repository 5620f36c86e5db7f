"""Packs local code for a job: a folder of modules, or a long script, as a ConfigMap. Pure but for reading files."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from dask_training.errors import CodeError

CONFIG_MAP_BYTES = 1024**2  # the API server's limit for all of a ConfigMap's data
# Modules in folders: a ConfigMap's keys hold no "/", and Python imports from a zip file as from a folder.
PACKAGES_ZIP = "packages.zip"
CODE_MOUNT = "/code"
_SHOWN = 5
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NOT_CODE = frozenset({"__pycache__", "node_modules", "artifacts", "build", "dist"})
_KEY_CHARACTERS = frozenset("-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def pack_folder(folder: Path) -> dict[str, bytes]:
    """A ConfigMap's data by key: the files of *folder*, and what lies in its sub-folders as one zip file.

    Hidden files, caches, virtual environments and results are left out. Raises CodeError for a folder without any
    file, a name that no key can have, or more than 1 MiB in all, naming the largest files.
    """
    files = {str(path.relative_to(folder).as_posix()): path for path in _files(folder)}
    if not files:
        raise CodeError(f"{folder} holds no files to send along")
    return _packed({name: _read(path) for name, path in files.items()}, folder)


def pack_files(paths: Sequence[Path]) -> dict[str, bytes]:
    """As `pack_folder`, of single files and whole folders (packages), each under its own name."""
    contents: dict[str, bytes] = {}
    for path in paths:
        name = path.resolve().name
        files = {f"{name}/{each.relative_to(path).as_posix()}": each for each in _files(path)} if path.is_dir() else {}
        if path.is_dir() and not files:
            raise CodeError(f"{path} holds no files to send along")
        for key, each in (files or {name: path}).items():
            if key in contents:
                raise CodeError(f"{path} has the same name as another of the files to send along")
            contents[key] = _read(each)
    return _packed(contents, paths[0].resolve().parent)


def _packed(contents: Mapping[str, bytes], folder: Path) -> dict[str, bytes]:
    data = {name: content for name, content in contents.items() if "/" not in name}
    deeper = {name: content for name, content in contents.items() if "/" in name}
    if deeper and PACKAGES_ZIP in data:
        raise CodeError(f"{folder / PACKAGES_ZIP} has the name that sub-folders are sent under; rename it")
    if deeper:
        data[PACKAGES_ZIP] = _zip(deeper)
    for name in data:
        if not set(name) <= _KEY_CHARACTERS or len(name) > 253:
            raise CodeError(f"{folder / name} can't be sent along: rename it to letters, digits, '-', '_' and '.' only")
    total = sum(len(content) for content in data.values())
    if total > CONFIG_MAP_BYTES:
        raise CodeError(_too_large(folder, total, contents))
    return data


def config_map(name: str, namespace: str, data: Mapping[str, bytes], labels: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap with *data*: text as text, all else in base64."""
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in data.items():
        try:
            text[key] = content.decode("utf-8")
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
    }
    return body | ({"data": text} if text else {}) | ({"binaryData": binary} if binary else {})


def with_code(spec: dict[str, Any], name: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    """*spec* with the code of ConfigMap *name*: importable in every pod, folders too."""
    changed = spec | {"code": {"configMap": {"name": name}}}
    if PACKAGES_ZIP in data:
        place = f"{CODE_MOUNT}/{PACKAGES_ZIP}"
        env = [dict(each) for each in spec.get("env") or ()]
        own = next((each for each in env if each.get("name") == "PYTHONPATH"), None)
        if own is None:
            env.append({"name": "PYTHONPATH", "value": place})
        elif "value" in own:
            own["value"] = f"{own['value']}:{place}"
        changed["env"] = env
    return changed


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CodeError(f"can't read {folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NOT_CODE or entry.suffix in {".pyc", ".egg-info"}:
            continue
        if entry.is_dir():
            if not (entry / "pyvenv.cfg").exists():
                yield from _files(entry)
        elif entry.is_file():
            yield entry


def _read(path: Path) -> bytes:
    # Not all of a data set, only to say that it is too large.
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_MAP_BYTES + 1)
    except OSError as error:
        raise CodeError(f"can't read {path}: {error.strerror or error}") from error
    if len(data) > CONFIG_MAP_BYTES:
        size = path.stat().st_size
        raise CodeError(f"{path} has {_size(size)}: {_LIMIT}.\n{_ADVICE}")
    return data


_LIMIT = "code is sent as a ConfigMap, which holds 1 MiB at most"
_ADVICE = (
    "Leave data out of the folder and load it from where it is kept; larger code belongs into an image (spec.image) "
    "or a package (spec.packages)."
)


def _too_large(folder: Path, total: int, contents: Mapping[str, bytes]) -> str:
    largest = sorted(contents.items(), key=lambda item: -len(item[1]))[:_SHOWN]
    lines = "\n".join(f"  {_size(len(content)):>9}  {folder / PurePosixPath(name)}" for name, content in largest)
    return f"{folder} has {_size(total)}: {_LIMIT}. Its largest files:\n{lines}\n{_ADVICE}"


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.0f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


def _zip(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files, whenever they were written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
