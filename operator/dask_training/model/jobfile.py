"""Job files: YAML documents with training jobs and what they need, as checked values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from dask_training import api
from dask_training.model import local_mode
from dask_training.model.documents import Document, read_documents
from dask_training.model.job import TrainingJob, check_body
from dask_training.model.problems import JobFileError, Path, Problem, path_text
from dask_training.model.scripts import check_script
from dask_training.model.structure import nearest, shown

_NEAR_KINDS: Final = (api.KIND, "DaskJob", "TrainingJob", "TrainJob", "DaskTraining", "DaskTrainJob")
_EXAMPLE: Final = f"it needs 'apiVersion: {api.API_VERSION}' and 'kind: {api.KIND}'"


class JobFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a job file holds: its jobs, its ConfigMaps and Secrets by name, and other objects as "Kind/name"."""

    jobs: tuple[TrainingJob, ...]
    config_maps: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    secrets: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    other_kinds: tuple[str, ...] = ()
    source: str = "job.yaml"
    lines: Mapping[str, Mapping[Path, int]] = MappingProxyType({})

    def __repr__(self) -> str:
        # Not the values of secrets.
        return f"JobFile({self.source!r}, jobs={[job.name for job in self.jobs]}, secrets={list(self.secrets)})"

    def job(self, name: str | None = None) -> TrainingJob:
        """The job of that name, or the only one; raises JobFileError if there is none, or several to choose from."""
        found = [job for job in self.jobs if name in (None, job.name)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(job.name for job in self.jobs)
        message = (
            f"holds several jobs: {names}; name the one to take"
            if name is None
            else f"holds no job {name!r}; it has: {names}"
        )
        raise JobFileError([Problem("", message, None, self.source)])

    def check_local(self, job: TrainingJob, environ: Mapping[str, str] = MappingProxyType({})) -> list[Problem]:
        """What a run of `job` on this machine needs and does not find in this file, and what needs Kubernetes.

        A variable whose value is to come from a Secret or ConfigMap may stand in `environ` instead, under its own name.
        """
        found = local_mode.missing(job, self.config_maps, self.secrets, environ)
        return [Problem(path_text(path), message, self._line(job, path), self.source) for path, message in found]

    def ignored_locally(self, job: TrainingJob) -> list[str]:
        """What a run of `job` on this machine can't honour: one sentence each."""
        return local_mode.ignored(job, self.other_kinds)

    def _line(self, job: TrainingJob, path: Path) -> int | None:
        lines = self.lines.get(f"{job.namespace}/{job.name}", {})
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path)


def load_job_file(text: str, *, source: str = "job.yaml") -> JobFile:
    """The checked content of a job file; raises JobFileError with everything that is wrong with it.

    `text` is YAML (or JSON), in one or several documents; `source` is what messages call it.
    """
    if source.endswith(".py"):
        message = f"is a Python script, not a job file: `dask-training init {source}` writes one for it"
        raise JobFileError([Problem("", message, None, source)])
    documents = read_documents(text, source=source)
    if not documents:
        raise JobFileError([Problem("", f"is empty: {_EXAMPLE}", None, source)])
    loading = _Loading(source)
    for document in documents:
        loading.add(document)
    return loading.done()


class _Loading:
    """Collects what the documents of a file hold, and what is wrong with them."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._problems: list[Problem] = []
        self._jobs: list[tuple[TrainingJob, Document]] = []
        self._job_documents = 0
        self._objects: dict[str, dict[str, dict[str, str]]] = {"ConfigMap": {}, "Secret": {}}
        self._object_documents: dict[str, Document] = {}
        self._others: list[str] = []

    def add(self, document: Document) -> None:
        body = document.value
        if not isinstance(body, dict):
            self._wrong(document, (), f"a document must be a mapping, got {shown(body)}: {_EXAMPLE}")
            return
        kind = body.get("kind")
        if isinstance(kind, str) and kind in self._objects and body.get("apiVersion") == "v1":
            self._add_object(kind, document)
        elif _means_job(body):
            self._add_job(document)
        else:
            self._add_other(document)

    def done(self) -> JobFile:
        self._check_names()
        for job, _ in self._jobs:
            self._check_script_from(job)
        if not self._job_documents and not self._problems:
            found = f"; found: {', '.join([*self._others, *self._object_names()])}"
            self._problems.append(Problem("", f"holds no {api.KIND}: {_EXAMPLE}{found}", None, self._source))
        if self._problems:
            raise JobFileError(sorted(self._problems, key=lambda problem: problem.line or 0))
        return JobFile(
            jobs=tuple(job for job, _ in self._jobs),
            config_maps=self._objects["ConfigMap"],
            secrets=self._objects["Secret"],
            other_kinds=tuple(self._others),
            source=self._source,
            lines={f"{job.namespace}/{job.name}": document.lines for job, document in self._jobs},
        )

    def _wrong(self, document: Document, path: Path, message: str, line: int | None = None) -> None:
        self._problems.append(Problem(path_text(path), message, line or document.line(path), self._source))

    def _add_job(self, document: Document) -> None:
        self._job_documents += 1
        before = len(self._problems)
        for path, message in _identity_problems(document.value):
            self._wrong(document, path, message)
        complete, problems = check_body(document.value)
        for path, message in problems:
            self._wrong(document, path, message)
        self._check_script(document, ("spec", "runner", "script"))
        if len(self._problems) == before:
            self._jobs.append((msgspec.convert(complete, TrainingJob), document))

    def _check_script(self, document: Document, path: Path) -> None:
        script = document.value
        for key in path:
            script = script.get(key) if isinstance(script, dict) else None
        if isinstance(script, str) and script and (error := check_script(script)):
            first = document.text_lines.get(path)
            self._wrong(document, path, error.message, first and first + error.line - 1)

    def _check_script_from(self, job: TrainingJob) -> None:
        if job.spec.runner and (source := job.spec.runner.script_from):
            document = self._object_documents.get(f"ConfigMap/{source.config_map.name}")
            if document and source.config_map.key in self._objects["ConfigMap"].get(source.config_map.name, {}):
                self._check_script(document, ("data", source.config_map.key))

    def _add_object(self, kind: str, document: Document) -> None:
        name = _name(document.value)
        if not isinstance(name, str) or not name:
            self._wrong(document, ("metadata", "name"), f"is required: name of the {kind}")
            return
        if name in self._objects[kind]:
            self._wrong(document, ("metadata", "name"), f"there is another {kind} {name!r} in this file")
        fields = ("data", "binaryData") if kind == "ConfigMap" else ("data", "stringData")
        values: dict[str, str] = {}
        for field in fields:
            for key, value in self._entries(document, field):
                decoded = (
                    _decoded(value) if (kind, field) in (("Secret", "data"), ("ConfigMap", "binaryData")) else value
                )
                if decoded is None and field == "data":
                    self._wrong(document, (field, key), "must be text in base64; plain text goes into stringData")
                elif decoded is None:
                    self._others.append(f"binaryData of ConfigMap/{name} ({key})")
                else:
                    values[key] = decoded
        self._objects[kind][name] = values
        self._object_documents[f"{kind}/{name}"] = document

    def _entries(self, document: Document, field: str) -> Iterator[tuple[str, str]]:
        entries = document.value.get(field) or {}
        if not isinstance(entries, dict):
            self._wrong(document, (field,), f"must be a mapping, got {shown(entries)}")
            return
        for key, value in entries.items():
            if isinstance(value, str):
                yield key, value
            else:
                hint = ": put it in quotes" if isinstance(value, int | float) else ""
                self._wrong(document, (field, key), f"must be text{hint}")  # its value may be a secret

    def _add_other(self, document: Document) -> None:
        kind = document.value.get("kind")
        if not isinstance(kind, str) or not kind:
            said = f"is required: {api.KIND}" if kind is None else f"must be {api.KIND}, got {shown(kind)}"
            self._wrong(document, ("kind",), said)
            return
        name = _name(document.value)
        self._others.append(f"{kind}/{name}" if isinstance(name, str) else kind)

    def _object_names(self) -> list[str]:
        return [f"{kind}/{name}" for kind, objects in self._objects.items() for name in objects]

    def _check_names(self) -> None:
        seen: dict[tuple[str, str], int] = {}
        for job, document in self._jobs:
            line = document.line(("metadata", "name"))
            if (other := seen.setdefault((job.namespace, job.name), line)) != line:
                self._wrong(document, ("metadata", "name"), f"there is another job {job.name!r} on line {other}")


def _name(body: Mapping[str, Any]) -> Any:
    metadata = body.get("metadata")
    return metadata.get("name") if isinstance(metadata, dict) else None


def _means_job(body: Mapping[str, Any]) -> bool:
    """Whether a document is, or most likely should be, a training job."""
    kind, version = body.get("kind"), body.get("apiVersion")
    if kind == api.KIND or str(version).partition("/")[0] == api.GROUP:
        return True
    return isinstance(kind, str) and nearest(kind, _NEAR_KINDS) == api.KIND


def _identity_problems(body: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for field, right in (("apiVersion", api.API_VERSION), ("kind", api.KIND)):
        value = body.get(field)
        if value is None:
            yield (field,), f"is required: {right}"
        elif value != right:
            yield (field,), f"must be {right}, got {shown(value)}"


def _decoded(text: str) -> str | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
