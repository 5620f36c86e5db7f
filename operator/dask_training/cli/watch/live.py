"""The display on a terminal: output scrolls by, below it a few lines that live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dask_training.api import Phase
from dask_training.cli.watch.lines import progress_parts, write
from dask_training.cli.watch.state import NextCommands, RunState, Span
from dask_training.cli.watch.summary import Summary, summary_of
from dask_training.cli.watch.text import displayable, duration, plain, plural
from dask_training.runner.events import DashboardReady, Event, Notice, Output, PhaseChanged

_FRAME_SECONDS = 0.1
_TICK_SECONDS = 0.25
_BAR_WIDTH = 28
_NARROW = 70  # columns; below that the bar takes the place of words that matter more


class LiveDisplay:
    """A display for *console*, a terminal.

    Where *out* is given (standard output is a file), the script's standard output goes there as it is.
    """

    frame_seconds = _FRAME_SECONDS
    tick_seconds: float | None = _TICK_SECONDS
    may_skip = True

    def __init__(
        self,
        job: str,
        console: Console,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.time,
        commands: NextCommands | None = None,
    ) -> None:
        self._state = RunState(job, commands=commands)
        self._console = console
        self._out = out
        self._clock = clock
        self._spinner = Spinner("dots", style="cyan")
        self._printed = 0  # so many of the phases have scrolled by
        self._live: Live | None = None
        self._closed = False

    def show(self, events: Sequence[Event], skipped: int) -> None:
        """Print what is to stay, then draw what lives."""
        lines: list[str] = []
        if skipped:
            lines.append(f"… {plural(skipped, 'line')} of output left out here; logs/runner.log has them")
        for event in events:
            if isinstance(event, Output):
                self._take_line(event, lines)
                continue
            self._state.apply(event)
            for renderable in self._lasting(event):
                self._print(_Raw(lines), renderable)
                lines = []
        if self._out is not None:
            self._out.flush()
        self._draw(_Raw(lines))

    def close(self) -> None:
        """Take the living lines away, and show the summary."""
        if self._live is not None:
            self._closed = True
            self._live.stop()
            self._live = None
        if self._state.finished is not None:
            self._print(*(phase for phase in self._phases_left()))
            self._console.print(_panel(summary_of(self._state)))

    def _take_line(self, event: Output, lines: list[str]) -> None:
        if self._out is not None and event.stream == "stdout":
            write(self._out, event.line + "\n")
            return
        line = displayable(event.line, colour=not self._console.no_color)
        lines.append(f"{event.source} | {line}" if event.source != "runner" else line)

    def _lasting(self, event: Event) -> Iterable[RenderableType]:
        match event:
            case PhaseChanged():
                yield from self._phases_passed()
                if event.attempt > 1 and event.phase is Phase.STARTING and not event.message:
                    yield Text(f"Attempt {event.attempt}", style="bold")
            case DashboardReady():
                yield Text.assemble("Dashboard ", (event.url, "underline cyan"))
            case Notice():
                yield _notice(event)

    def _phases_passed(self) -> Iterable[RenderableType]:
        """Phases that are known to have gone well: whether the code did is only known at the end."""
        spans = self._state.spans
        while self._printed < len(spans) - 1:
            span = spans[self._printed]
            failed_before = span.attempt != spans[-1].attempt  # a notice has said so
            if not failed_before and spans[self._printed + 1].phase is Phase.FINALIZING:
                return
            self._printed += 1
            if not failed_before:
                yield _phase_line(span, failed=False)

    def _phases_left(self) -> Iterable[RenderableType]:
        failed = self._state.failed_span()
        for span in self._state.spans[self._printed :]:
            yield _phase_line(span, failed=span is failed)

    def _print(self, *renderables: RenderableType) -> None:
        # Cropping and wrapping are the terminal's business: a long line of the user's stays one line to copy.
        for renderable in renderables:
            if isinstance(renderable, _Raw):
                if renderable.lines:
                    self._console.print(renderable, end="", crop=False)
            else:
                self._console.print(renderable, soft_wrap=True)

    def _draw(self, output: _Raw) -> None:
        if self._live is None:
            self._live = Live(
                _Living(self._living),
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=self._out is None,
            )
            self._live.start()
        if output.lines:
            self._print(output)  # also draws the living lines below it
        else:
            self._live.refresh()

    def _living(self) -> RenderableType:
        state, now = self._state, self._clock()
        current = state.current
        if current is None or self._closed:
            return Text("")
        rows: list[RenderableType] = [
            Text(f"  {span.phase:<11} {duration(span.seconds(now))}", style="dim")
            for span in state.spans[self._printed : -1]
            if span.attempt == current.attempt
        ]
        rows.append(self._current_row(current, now))
        if state.progress is not None and current.phase is Phase.RUNNING:
            rows.append(self._progress_row(now))
        return Group(*rows)

    def _current_row(self, current: Span, now: float) -> RenderableType:
        state = self._state
        parts = [duration(current.seconds(now))]
        if state.workers is not None and state.workers.desired:
            parts.append(f"{state.workers.ready} of {plural(state.workers.desired, 'worker')}")
            if state.workers.restarts:
                parts.append(plural(state.workers.restarts, "restart"))
        if current.message:
            parts.append(plain(current.message))
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(self._spinner, Text.assemble((f"{current.phase:<11} ", "bold"), " · ".join(parts)))
        return row

    def _progress_row(self, now: float) -> RenderableType:
        progress = self._state.progress
        words = progress_parts(self._state, now)
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        if progress is not None and progress.total and self._console.width >= _NARROW:
            row.add_column(width=_BAR_WIDTH)
            row.add_column(no_wrap=True, overflow="ellipsis")
            bar = ProgressBar(total=progress.total, completed=progress.done, width=_BAR_WIDTH)
            row.add_row("", bar, Text(" · ".join(words)))
        else:
            row.add_column(no_wrap=True, overflow="ellipsis")
            row.add_row("", Text(" · ".join(words)))
        return row


class _Raw:
    """Lines that are written as they are: no markup, no highlighting, no wrapping, and quick."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.lines:
            yield Segment("\n".join(self.lines) + "\n")


class _Living:
    """Draws what *draw* returns at the time of drawing, whoever asks for it."""

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._draw()


def _phase_line(span: Span, *, failed: bool) -> Text:
    mark, style = ("✗", "red") if failed else ("✓", "green")
    return Text.assemble((mark, style), f" {span.phase:<11} {duration(span.seconds(0))}")


def _notice(event: Notice) -> Text:
    mark, style = ("i", "blue") if event.level == "info" else ("!", "yellow")
    first, *rest = plain(event.message).splitlines() or [""]
    return Text.assemble((mark, style), f" {first}", *(f"\n  {line}" for line in rest))


def _panel(summary: Summary) -> RenderableType:
    style = "green" if summary.succeeded else "red"
    body: list[RenderableType] = []
    if summary.message:
        body += [Text(summary.message), Text("")]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in summary.rows:
        table.add_row(label, Text(text))
    body.append(table)
    title = Text(summary.headline, style=f"bold {style}")
    panel = Panel(Group(*body), title=title, title_align="left", border_style=style)
    below = [Text.assemble(("$ ", "dim"), command) for command in summary.commands]
    return Group(panel, *below)
