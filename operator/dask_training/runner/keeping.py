"""Keeps what an attempt leaves: its files, records and logs, in the job's store or else where they are not lost."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from dask_training.api import ExitCode, Phase, Reason
from dask_training.artifacts import ArtifactStore, Manifest, over_limit, refused
from dask_training.errors import ArtifactError
from dask_training.model import TrainingJob
from dask_training.runner import records, run_summary
from dask_training.runner.attempt_record import AttemptRecord
from dask_training.runner.events import ArtifactsStored, Listener, MetricValue, Notice
from dask_training.runner.verdict import Outcome, mebibytes
from dask_training.runner.workspace import Workspace
from dask_training.termination import Advice

# A run on one machine that was told to end has 3 s for everything.
_HURRY_SECONDS = 1.2
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Kept:
    """What was kept: metrics and advice that are known now, and where the files are, if they are anywhere."""

    metrics: dict[str, MetricValue] = field(default_factory=dict)
    stored: ArtifactsStored | None = None
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where an attempt's files go: a store, and the prefix that is the attempt's own in it."""

    store: ArtifactStore
    prefix: str


class Keeper:
    """Keeps the files of one attempt at `place`; at `fallback`, if there is one, when that fails.

    `lost` is what to tell the user where neither takes them; `hurry_seconds` is what a hurried store has.
    """

    def __init__(
        self,
        job: TrainingJob,
        attempt: int,
        workspace: Workspace,
        listener: Listener,
        *,
        place: Place,
        fallback: Place | None,
        lost: str = "",
        hurry_seconds: float = _HURRY_SECONDS,
    ) -> None:
        self._job = job
        self._attempt = attempt
        self._workspace = workspace
        self._place = place
        self._fallback = fallback
        self._lost = lost
        self._hurry_seconds = hurry_seconds
        self._listen = listener
        self._failure = ""  # of the store, known before there is anything to store

    def check(self, *, patience: float = 0.0) -> Outcome | None:
        """The outcome of the attempt if its store can't be written to; None if it can.

        For *patience* seconds it is tried again whatever the store says.
        """
        give_up = time.monotonic() + patience
        while True:
            try:
                self._place.store.check_writable()
            except ArtifactError as error:
                if time.monotonic() >= give_up:
                    self._failure = str(error)
                    return Outcome(Reason.ARTIFACT_STORE_FAILED, self._failure, ExitCode.ARTIFACT_STORE)
                time.sleep(_PAUSE_SECONDS)
            else:
                return None

    def keep(
        self, outcome: Outcome, reported: Mapping[str, MetricValue], record: AttemptRecord, *, hurried: bool
    ) -> tuple[Outcome, Kept]:
        """Stores everything; the outcome changes where it succeeded but not all of it could be kept.

        `hurried` gives the store `hurry_seconds`.
        """
        summary = self._gather(outcome, reported, record)
        problem = self._set_aside()
        stop = threading.Event()
        timer = threading.Timer(self._hurry_seconds, stop.set)
        timer.daemon = True
        if hurried:
            timer.start()
        stored, failure = self._store(outcome, summary.metrics, stop)
        timer.cancel()
        problems = "\n".join(text for text in (problem, failure) if text)
        if stored is not None:
            self._listen(stored)
        return _with_problem(outcome, problems), Kept(summary.metrics, stored, summary.advice)

    def _gather(
        self, outcome: Outcome, reported: Mapping[str, MetricValue], record: AttemptRecord
    ) -> run_summary.AttemptSummary:
        """Puts all that is kept into the artifacts folder."""
        artifacts = self._workspace.artifacts
        notes = records.notes_on_files(artifacts, self._workspace.left_in_work(), succeeded=outcome.succeeded)
        if not outcome.succeeded and self._job.spec.artifacts.upload_policy == "OnSuccess":
            shutil.rmtree(artifacts)
            artifacts.mkdir()
        notes += records.make_way(artifacts)
        metrics, more = records.write_metrics(artifacts, reported)
        layer = self._workspace.layer_site if self._job.spec.packages else None
        job = {
            "name": self._job.name,
            "namespace": self._job.namespace,
            "uid": self._job.metadata.uid,
            "attempt": self._attempt,
        }
        run = {"reason": outcome.reason, "message": outcome.message, "exitCode": outcome.exit_code}
        spec = self._job.to_body()["spec"]
        records.write_environment(artifacts, job=job, layer=layer, cluster=record.report.versions, run=run, spec=spec)
        summary = record.summary(self._job, self._attempt, outcome, metrics)
        (artifacts / run_summary.FILE).write_bytes(summary.to_json())
        for report in self._workspace.reports.iterdir():
            shutil.move(report, artifacts / report.name)
        records.move_logs(self._workspace.logs, artifacts)
        for note in (*notes, *more):
            self._listen(Notice(message=note))
        return summary

    def _set_aside(self) -> str:
        """Removes what can't be kept from the folder, so that all else can be; returns what that was."""
        artifacts = self._workspace.artifacts
        unsafe = refused(artifacts)
        for path in unsafe:
            (artifacts / path).unlink()
        limit = self._job.spec.artifacts.size_limit_bytes
        large = over_limit(artifacts, limit)
        for path in large:
            (artifacts / path).unlink()
        texts = list(unsafe.values())[:3] + ([f"… and {len(unsafe) - 3} more"] if len(unsafe) > 3 else [])
        if large:
            names = ", ".join(large[:3]) + (", …" if len(large) > 3 else "")
            texts.append(
                f"the artifacts are larger than {mebibytes(limit)} (spec.artifacts.sizeLimit); not kept: {names}."
                " Raise the limit, or keep less."
            )
        return "\n".join(texts)

    def _store(
        self, outcome: Outcome, metrics: Mapping[str, MetricValue], stop: threading.Event
    ) -> tuple[ArtifactsStored | None, str]:
        """Where the files are now, if anywhere, and what went wrong."""
        info = {
            "job": self._job.name,
            "attempt": self._attempt,
            "phase": Phase.SUCCEEDED if outcome.succeeded else Phase.FAILED,
            "reason": outcome.reason,
            "exitCode": outcome.exit_code,
            "metrics": dict(metrics),
        }
        failure = self._failure
        if not failure:
            try:
                return self._put(self._place, info, stop), ""
            except ArtifactError as error:
                failure = str(error)
        elif outcome.reason is Reason.ARTIFACT_STORE_FAILED:
            failure = ""  # its message says it
        if self._fallback is None or stop.is_set():
            return None, f"{failure}\n{self._lost}".strip()
        try:
            stored = self._put(self._fallback, info, stop)
        except ArtifactError as error:
            return None, f"{failure}\n{error}".strip()
        return stored, f"{failure}\nThe files are kept on this machine instead: {stored.url}".strip()

    def _put(self, place: Place, info: Mapping[str, object], stop: threading.Event) -> ArtifactsStored:
        manifest: Manifest = place.store.store(
            self._workspace.artifacts, prefix=place.prefix, size_limit_bytes=None, info=info, stop=stop
        )
        return ArtifactsStored(
            url=place.store.url_of(place.prefix),
            files=len(manifest.files),
            bytes=manifest.total_bytes,
            manifest_sha256=manifest.sha256,
            names=_names_by_size(manifest),
        )


def _names_by_size(manifest: Manifest, most: int = 1000) -> tuple[str, ...]:
    return tuple(entry.path for entry in sorted(manifest.files, key=lambda entry: entry.size)[-most:])


def _with_problem(outcome: Outcome, problem: str) -> Outcome:
    """A store's failure decides where the code succeeded; elsewhere it is said as well."""
    if not problem:
        return outcome
    if outcome.succeeded:
        message = f"the code ran to its end, but not all could be kept:\n{problem}"
        return dataclasses.replace(
            outcome, reason=Reason.ARTIFACT_STORE_FAILED, message=message, exit_code=ExitCode.ARTIFACT_STORE
        )
    return dataclasses.replace(outcome, message=f"{outcome.message}\n{problem}")
