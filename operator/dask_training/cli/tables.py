"""Tables on standard output: aligned by what is shown, coloured on a terminal alone."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dask_training.api import Phase

_COLOURS = {
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.RUNNING: "cyan",
    Phase.FINALIZING: "cyan",
    Phase.SUSPENDED: "yellow",
}


def phase_colour(phase: str) -> str | None:
    """The colour of a phase's name; None for the terminal's own."""
    return _COLOURS.get(Phase(phase)) if phase in Phase.__members__.values() else None


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), phases: int | None = None) -> None:
    """Write *rows*, the first being the head; columns *right* aligned there, the one of *phases* coloured."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for number, row in enumerate(rows):
        cells = []
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - len(text))
            shown = click.style(text, fg=phase_colour(text)) if column == phases and number else text
            cells.append(padding + shown if column in right else shown + padding)
        click.echo("  ".join(cells).rstrip())
