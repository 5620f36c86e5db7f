"""Reads job files for commands, and shows what is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dask_training.api import ExitCode
from dask_training.cli import hints
from dask_training.cli.watch.text import displayable

if TYPE_CHECKING:
    from dask_training.model import JobFileError, Problem

STANDARD_INPUT = "-"
_EXCERPT_CHARACTERS = 100


class JobFileUnreadableError(click.ClickException):
    """A job file that could not be read; the message says what to do."""

    exit_code = ExitCode.USAGE


def read_job_file(name: str) -> tuple[str, str]:
    """The text of the job file *name* ("-": standard input), and what messages call it.

    Raises JobFileUnreadableError for what is no readable file of text, or plainly something else.
    """
    if name == STANDARD_INPUT:
        if sys.stdin.isatty():
            click.echo("Reading a job file from standard input; end it with Ctrl-D.", err=True)
        return _decoded(sys.stdin.buffer.read(), "standard input"), "standard input"
    path = Path(name)
    if path.is_dir():
        raise JobFileUnreadableError(hints.folder_given(path))
    if path.suffix in {".py", ".ipynb"}:
        script = path.suffix == ".py"
        raise JobFileUnreadableError(hints.script_given(path) if script else hints.notebook_given(path))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise JobFileUnreadableError(hints.no_such_file(path)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JobFileUnreadableError(f"can't read {path}: {reason}") from error
    return _decoded(data, name), name


def show_problems(error: JobFileError, text: str) -> None:
    """Write all problems of a job file to standard error, each with the line that it is about."""
    lines = text.split("\n")
    for problem in error.problems:
        click.echo(str(problem), err=True)
        excerpt = _excerpt(problem, lines)
        if excerpt:
            click.echo(excerpt, err=True)
    hint = hints.for_job_text(text)
    if hint:
        click.echo(hint, err=True)


def _excerpt(problem: Problem, lines: list[str]) -> str:
    if problem.line is None or not 0 < problem.line <= len(lines):
        return ""
    line = displayable(lines[problem.line - 1].rstrip(), colour=False)
    if not line.strip():
        return ""
    shown = line if len(line) <= _EXCERPT_CHARACTERS else line[: _EXCERPT_CHARACTERS - 1] + "…"
    return f"  {problem.line:>4} | {shown}"


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name}:{line}: is not UTF-8 text (byte {error.start}: 0x{data[error.start]:02x})"
        raise JobFileUnreadableError(message) from None
