"""The last word on a run: what became of it, what it took, where its files are and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dask_training.api import Phase, Reason
from dask_training.cli.watch.state import RunState
from dask_training.cli.watch.text import duration, metrics_line, plain, plural, size
from dask_training.runner.events import ArtifactsStored, Finished, Timings

# What every run keeps beside the user's own files.
OWN_FILES = frozenset(
    {"metrics.json", "summary.json", "environment.json", "performance_report.html", "profile.html", "manifest.json"}
)
_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Summary:
    """A run's summary, ready for a panel or for plain lines."""

    headline: str
    message: str
    rows: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    succeeded: bool
    place: str

    def lines(self) -> list[str]:
        """The summary as plain lines."""
        width = max((len(label) for label, _ in self.rows), default=0)
        lines = [self.headline]
        lines += [f"  {line}" for line in self.message.splitlines()]
        lines += [f"  {label:<{width}}  {text}" for label, text in self.rows]
        lines += [f"  $ {command}" for command in self.commands]
        return lines

    def headline_with_place(self) -> str:
        """One line: what became of it, and where its files are."""
        return f"{self.headline}; artifacts in {self.place}" if self.place else self.headline


def summary_of(state: RunState) -> Summary:
    """The summary of a run that has finished; raises ValueError for one that has not."""
    finished = state.finished
    if finished is None:
        raise ValueError(f"{state.job} has not finished")
    succeeded = finished.phase is Phase.SUCCEEDED
    place = place_of(finished.artifacts.url) if finished.artifacts else ""
    return Summary(
        headline=_headline(state.job, finished, succeeded=succeeded),
        message="" if succeeded and finished.reason is Reason.COMPLETED else plain(finished.message).strip(),
        rows=tuple((label, text) for label, text in _rows(state, finished, place) if text),
        commands=tuple(state.commands(finished) if state.commands else _commands(finished, place, succeeded=succeeded)),
        succeeded=succeeded,
        place=place,
    )


def place_of(url: str) -> str:
    """*url* as a user would type it: a path, relative if it is below the working folder, or the URL itself."""
    parts = urlsplit(url)
    if parts.scheme not in {"", "file"}:
        return url
    path = Path(unquote(parts.path) if parts.scheme else url)
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except (ValueError, OSError):
        return str(path)


def user_files(stored: ArtifactsStored) -> list[str]:
    """Of the stored files those that the user's code wrote, the largest first."""
    return [name for name in reversed(stored.names) if name not in OWN_FILES and not name.startswith("logs/")]


def _headline(job: str, finished: Finished, *, succeeded: bool) -> str:
    took = duration(finished.timings.total)
    if succeeded:
        return f"{job}: {finished.phase} in {took}"
    return f"{job}: {finished.phase} ({finished.reason}) after {took}, exit code {finished.exit_code}"


def _rows(state: RunState, finished: Finished, place: str) -> list[tuple[str, str]]:
    return [
        ("Metrics", metrics_line(finished.metrics)),
        ("Time", _times(finished.timings)),
        ("Compute", _compute(state, finished)),
        ("Artifacts", _artifacts(finished.artifacts, place)),
        ("Files", _files(finished.artifacts)),
        *_advice(finished),
    ]


def _advice(finished: Finished) -> list[tuple[str, str]]:
    rows = [text for advice in finished.advice for text in (plain(advice.message), f"-> {plain(advice.fix)}")]
    return [("" if number else "Advice", text) for number, text in enumerate(rows)]


def _times(timings: Timings) -> str:
    phases = (("starting", timings.starting), ("running", timings.running), ("finalizing", timings.finalizing))
    parts = [f"{name} {duration(seconds)}" for name, seconds in phases if seconds is not None]
    return f"{duration(timings.total)} ({', '.join(parts)})" if parts else duration(timings.total)


def _compute(state: RunState, finished: Finished) -> str:
    # Every process takes some CPU time: where none is given, it was not measured, and nor were the tasks.
    parts = [f"{duration(finished.cpu_seconds)} of CPU"] if finished.cpu_seconds else []
    if finished.cpu_seconds or finished.tasks:
        parts.append(plural(finished.tasks, "task"))
    if state.workers:
        parts.append(plural(state.workers.desired, "worker"))
    if finished.peak_worker_memory_bytes is not None:
        parts.append(f"peak {size(finished.peak_worker_memory_bytes)} per worker")
    parts.append(plural(finished.worker_restarts, "restart"))
    return ", ".join(parts)


def _artifacts(stored: ArtifactsStored | None, place: str) -> str:
    return f"{place} ({plural(stored.files, 'file')}, {size(stored.bytes)})" if stored else "none were stored"


def _files(stored: ArtifactsStored | None) -> str:
    if stored is None:
        return ""
    theirs = user_files(stored)
    ours = [name for name in ("metrics.json", "performance_report.html") if name in stored.names]
    shown = [*theirs[: _NAMES_SHOWN - len(ours)], *ours]
    rest = stored.files - len(shown)
    if not shown:
        return ""
    return ", ".join(plain(name) for name in shown) + (f" and {rest:,} more" if rest > 0 else "")


def _commands(finished: Finished, place: str, *, succeeded: bool) -> list[str]:
    if finished.artifacts is None:
        return []
    quoted = f"'{place}'" if any(character in place for character in " ()&;$*?") else place
    commands = [f"dask-training artifacts ls {quoted}"]
    if not succeeded and "logs/runner.log" in finished.artifacts.names and "://" not in place:
        commands.insert(0, f"less {quoted}/logs/runner.log")
    return commands
