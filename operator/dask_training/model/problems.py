"""What is wrong with a job file, as values: where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from dask_training.errors import DaskTrainingError

Path: TypeAlias = tuple[str | int, ...]


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: at field `path` ("spec.env[0].name", "" for the document), on `line` of `source`.

    `line` counts from 1 and is None where it is not known.
    """

    path: str
    message: str
    line: int | None = None
    source: str = ""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source or 'line'}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class JobFileError(DaskTrainingError):
    """A job file is not right; `problems` has all that was found, `str()` one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def path_text(path: Sequence[str | int]) -> str:
    """The path as Kubernetes writes it: ("spec", "env", 0, "name") is "spec.env[0].name"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{plain(part)}" for part in path).removeprefix(".")


def plain(text: str) -> str:
    """The text as it may be shown on a terminal: as it is, or escaped if it holds anything that does not print."""
    return text if text.isprintable() else repr(text)[1:-1]
