"""What `dask-training run` shows, from recorded events: no cluster, no terminal."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time

import msgspec
import pytest
from machine import slowdown
from modules import load_module
from rich.console import Console

from dask_training.api import Phase, Reason
from dask_training.cli.watch.feed import Feed
from dask_training.cli.watch.lines import JsonLines, PlainLines, Quiet
from dask_training.cli.watch.live import LiveDisplay
from dask_training.cli.watch.state import RunState, Speed
from dask_training.cli.watch.text import displayable, duration, number, plain, rate, size, time_left
from dask_training.runner.events import (
    ArtifactsStored,
    DashboardReady,
    Finished,
    MetricsReported,
    Notice,
    Output,
    PhaseChanged,
    Progress,
    Timings,
    WorkersChanged,
    from_json,
    to_json,
)
from dask_training.termination import Advice

T = 1_800_000_000.0  # 08:00:00 UTC
SUCCESS = [
    PhaseChanged(at=T, phase=Phase.STARTING, message="starting a scheduler and 2 workers"),
    WorkersChanged(at=T + 0.4, desired=2, ready=0),
    DashboardReady(at=T + 0.5, url="http://127.0.0.1:8787/status"),
    WorkersChanged(at=T + 1.5, desired=2, ready=2),
    PhaseChanged(at=T + 1.9, phase=Phase.RUNNING),
    Output(at=T + 2.0, line="loading [bold]flights[/bold]"),
    Output(at=T + 2.1, line="/site/lib.py:3: UserWarning: old", stream="stderr"),
    Progress(at=T + 3.0, done=0, total=40, call=1, name="_fit_and_score"),
    Progress(at=T + 5.0, done=20, total=40, call=1, name="_fit_and_score"),
    Notice(at=T + 6.0, message="worker-1 ended unexpectedly; it is started again."),
    Progress(at=T + 8.0, done=30, total=40, call=1, name="_fit_and_score"),
    MetricsReported(at=T + 9.0, metrics={"accuracy": 0.93125}),
    PhaseChanged(at=T + 10.0, phase=Phase.FINALIZING, message="keeping artifacts"),
    PhaseChanged(at=T + 11.2, phase=Phase.SUCCEEDED),
    Finished(
        at=T + 11.2,
        phase=Phase.SUCCEEDED,
        reason=Reason.COMPLETED,
        message="the code ran to its end",
        exit_code=0,
        script_exit_code=0,
        timings=Timings(starting=1.9, running=8.1, finalizing=1.2, total=11.2),
        metrics={"accuracy": 0.93125, "rows": 336776, "best": "deep"},
        cpu_seconds=75.3,
        peak_worker_memory_bytes=431_000_000,
        worker_restarts=1,
        tasks=40,
        artifacts=ArtifactsStored(
            at=T + 11.1,
            url="artifacts/flights/20270115-080000-ab12",
            files=7,
            bytes=2_500_000,
            manifest_sha256="0" * 64,
            names=(
                "metrics.json",
                "logs/worker-0.log",
                "logs/runner.log",
                "environment.json",
                "performance_report.html",
                "roc_curve.png",
                "model.joblib",
            ),
        ),
    ),
]
FAILURE = [
    PhaseChanged(at=T, phase=Phase.STARTING),
    PhaseChanged(at=T + 2.0, phase=Phase.RUNNING),
    Output(at=T + 2.5, line="Traceback (most recent call last):", stream="stderr"),
    Output(at=T + 2.5, line='  File "train.py", line 7, in <module>', stream="stderr"),
    Output(at=T + 2.5, line="ValueError: no [rows]", stream="stderr"),
    PhaseChanged(at=T + 3.0, phase=Phase.FINALIZING, message="keeping artifacts"),
    Finished(
        at=T + 3.5,
        phase=Phase.FAILED,
        reason=Reason.RUNNER_FAILED,
        message="ValueError: no [rows], line 7 of train.py",
        exit_code=1,
        script_exit_code=1,
        timings=Timings(starting=2.0, running=1.0, finalizing=0.5, total=3.5),
        cpu_seconds=4.0,
        artifacts=ArtifactsStored(
            at=T + 3.4,
            url="artifacts/flights/20270115-080000-ab12",
            files=2,
            bytes=900,
            manifest_sha256="0" * 64,
            names=("environment.json", "logs/runner.log"),
        ),
    ),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def terminal(root):
    return load_module(root / "docs" / "pictures" / "screen.py")


def plain_lines(events) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    display = PlainLines("flights", out, err)
    display.show(events, 0)
    display.close()
    return out.getvalue(), err.getvalue()


class LiveTerminal:
    """A live display on a terminal in memory, whose clock is the last event's time."""

    def __init__(self, terminal, *, columns=80, rows=24, out=None, **options):
        self._terminal = terminal
        self._size = (columns, rows)
        self.file = io.StringIO()
        self.now = T
        console = Console(
            file=self.file,
            width=columns,
            height=rows,
            force_terminal=True,
            color_system="standard",
            highlight=False,
            emoji=False,
            markup=False,
            **options,
        )
        self.display = LiveDisplay("flights", console, out=out, clock=lambda: self.now)

    def show(self, *events, skipped=0):
        self.now = events[-1].at if events else self.now
        self.display.show(events, skipped)

    def screen(self):
        screen = self._terminal.Screen(*self._size)
        screen.feed(self.file.getvalue().replace("\n", "\r\n"))
        return screen

    def lines(self):
        return self.screen().lines


@pytest.fixture
def live(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    made = []

    def make(**options):
        made.append(LiveTerminal(terminal, **options))
        return made[-1]

    yield make
    for each in made:
        each.display.close()


# Plain lines.


def test_a_success_in_plain_lines_is_the_scripts_output_and_a_timed_report():
    out, err = plain_lines(SUCCESS)
    assert out == "loading [bold]flights[/bold]\n"
    assert err == (
        "08:00:00 Starting: starting a scheduler and 2 workers\n"
        "08:00:00 workers: 0 of 2 ready\n"
        "08:00:00 dashboard: http://127.0.0.1:8787/status\n"
        "08:00:01 workers: 2 of 2 ready\n"
        "08:00:01 Running (Starting took 1.9 s)\n"
        "/site/lib.py:3: UserWarning: old\n"
        "08:00:06 warning: worker-1 ended unexpectedly; it is started again.\n"
        "08:00:08 30 of 40 tasks (fit_and_score), 6.0/s, 0:02 left\n"
        "08:00:10 Finalizing (Running took 8.1 s): keeping artifacts\n"
        "\n"
        "flights: Succeeded in 11.2 s\n"
        "  Metrics    accuracy 0.93125, rows 336,776, best deep\n"
        "  Time       11.2 s (starting 1.9 s, running 8.1 s, finalizing 1.2 s)\n"
        "  Compute    1 min 15 s of CPU, 40 tasks, 2 workers, peak 411 MiB per worker, 1 restart\n"
        "  Artifacts  artifacts/flights/20270115-080000-ab12 (7 files, 2.4 MiB)\n"
        "  Files      model.joblib, roc_curve.png, metrics.json, performance_report.html and 3 more\n"
        "  $ dask-training artifacts ls artifacts/flights/20270115-080000-ab12\n"
    )


def test_advice_is_the_last_of_the_summary():
    tiny = Advice(rule="tiny-tasks", message="900 tasks took 2.0 ms each\x1b[2J", fix="do more in each")
    idle = Advice(rule="idle-workers", message="3 tasks for 8 threads", fix="spec.workers.replicas: 3")
    finished = msgspec.structs.replace(SUCCESS[-1], advice=(tiny, idle))
    lines = plain_lines([*SUCCESS[:-1], finished])[1].splitlines()
    assert lines[-5:-1] == [
        "  Advice     900 tasks took 2.0 ms each",
        "             -> do more in each",
        "             3 tasks for 8 threads",
        "             -> spec.workers.replicas: 3",
    ]
    assert from_json(to_json(finished)) == finished


def test_a_failure_in_plain_lines_ends_with_what_happened_and_what_to_read():
    out, err = plain_lines(FAILURE)
    assert out == ""
    assert err == (
        "08:00:00 Starting\n"
        "08:00:02 Running (Starting took 2.0 s)\n"
        "Traceback (most recent call last):\n"
        '  File "train.py", line 7, in <module>\n'
        "ValueError: no [rows]\n"
        "08:00:03 Finalizing (Running took 1.0 s): keeping artifacts\n"
        "\n"
        "flights: Failed (RunnerFailed) after 3.5 s, exit code 1\n"
        "  ValueError: no [rows], line 7 of train.py\n"
        "  Time       3.5 s (starting 2.0 s, running 1.0 s, finalizing 0.5 s)\n"
        "  Compute    4.0 s of CPU, 0 tasks, 0 restarts\n"
        "  Artifacts  artifacts/flights/20270115-080000-ab12 (2 files, 900 B)\n"
        "  $ less artifacts/flights/20270115-080000-ab12/logs/runner.log\n"
        "  $ dask-training artifacts ls artifacts/flights/20270115-080000-ab12\n"
    )


def test_plain_output_is_passed_on_byte_for_byte_even_with_escapes_and_odd_characters():
    out, _ = plain_lines([Output(line="\x1b[2Jclear\r50%"), Output(line="ü\udcff")])
    assert out == "\x1b[2Jclear\r50%\nü\udcff\n"


def test_a_stream_that_lacks_a_character_gets_its_escape():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    PlainLines("job", out, io.StringIO()).show([Output(line="ü✓\udcff")], 0)
    assert out.buffer.getvalue() == b"\\xfc\\u2713\\udcff\n"


def test_plain_progress_comes_seldom_and_ever_more_so():
    events = [PhaseChanged(at=T, phase=Phase.RUNNING)]
    events += [Progress(at=T + i / 10, done=i, total=None, call=1) for i in range(36_000)]
    _, err = plain_lines(events)
    seconds = [int(line[3:5]) * 60 + int(line[6:8]) for line in err.splitlines()[1:]]
    assert 70 < len(seconds) < 120
    assert min(b - a for a, b in itertools.pairwise(seconds)) >= 5
    assert "08:30:" in err
    assert err.splitlines()[-1].endswith("tasks, 10.0/s")


def test_multi_line_notices_keep_their_time_on_each_line_and_lose_control_characters():
    _, err = plain_lines([Notice(at=T, message="first\nsecond \x1b[2Jx", level="info")])
    assert err == "08:00:00 note: first\n08:00:00 note: second x\n"


# JSON and quiet.


def test_json_lines_are_the_events_and_nothing_else():
    out = io.StringIO()
    display = JsonLines(out)
    display.show([*SUCCESS, Output(line="\udcff")], 0)
    lines = out.getvalue().splitlines()
    assert [from_json(line) for line in lines[:-1]] == SUCCESS
    assert json.loads(lines[-1])["line"] == "?"


def test_quiet_says_one_line_for_a_success():
    err = io.StringIO()
    Quiet("flights", err).show(SUCCESS, 0)
    assert err.getvalue() == ("flights: Succeeded in 11.2 s; artifacts in artifacts/flights/20270115-080000-ab12\n")


def test_quiet_shows_the_error_output_of_a_failure_and_no_more_than_its_end():
    err = io.StringIO()
    early = [Output(line=f"early {i}", stream="stderr") for i in range(100)]
    Quiet("flights", err).show([*early, Output(line="stdout"), *FAILURE], 0)
    lines = err.getvalue().splitlines()
    assert lines[0] == "early 63"
    assert lines[37:40] == [
        "Traceback (most recent call last):",
        '  File "train.py", line 7, in <module>',
        "ValueError: no [rows]",
    ]
    assert lines[40] == "flights: Failed (RunnerFailed) after 3.5 s, exit code 1"


# The live display.


def test_a_success_on_a_terminal_ends_with_phases_output_and_a_panel(live):
    screen = live(columns=100)
    for event in SUCCESS:
        screen.show(event)
    screen.display.close()
    text = screen.lines()
    assert text[:7] == [
        "Dashboard http://127.0.0.1:8787/status",
        "✓ Starting    1.9 s",
        "loading [bold]flights[/bold]",
        "/site/lib.py:3: UserWarning: old",
        "! worker-1 ended unexpectedly; it is started again.",
        "✓ Running     8.1 s",
        "✓ Finalizing  1.2 s",
    ]
    inside = [line.strip("│").strip() for line in text[8:13]]
    assert text[7].startswith("╭─ flights: Succeeded in 11.2 s ──")
    assert inside == [
        "Metrics    accuracy 0.93125, rows 336,776, best deep",
        "Time       11.2 s (starting 1.9 s, running 8.1 s, finalizing 1.2 s)",
        "Compute    1 min 15 s of CPU, 40 tasks, 2 workers, peak 411 MiB per worker, 1 restart",
        "Artifacts  artifacts/flights/20270115-080000-ab12 (7 files, 2.4 MiB)",
        "Files      model.joblib, roc_curve.png, metrics.json, performance_report.html and 3 more",
    ]
    assert text[13].startswith("╰──")
    assert text[14:] == ["$ dask-training artifacts ls artifacts/flights/20270115-080000-ab12"]
    assert screen.screen().cursor_is_visible


def test_a_failure_on_a_terminal_marks_the_phase_that_failed(live):
    screen = live(columns=100)
    for event in FAILURE:
        screen.show(event)
    screen.display.close()
    text = screen.lines()
    assert text[:6] == [
        "✓ Starting    2.0 s",
        "Traceback (most recent call last):",
        '  File "train.py", line 7, in <module>',
        "ValueError: no [rows]",
        "✗ Running     1.0 s",
        "✓ Finalizing  0.5 s",
    ]
    assert text[6].startswith("╭─ flights: Failed (RunnerFailed) after 3.5 s, exit code 1 ─")
    assert "ValueError: no [rows], line 7 of train.py" in text[7]
    assert text[-2:] == [
        "$ less artifacts/flights/20270115-080000-ab12/logs/runner.log",
        "$ dask-training artifacts ls artifacts/flights/20270115-080000-ab12",
    ]


def test_the_living_lines_show_phase_workers_bar_rate_and_time_left(live):
    screen = live(columns=100)
    for event in SUCCESS[:9]:
        screen.show(event)
    phase, progress = screen.lines()[-2:]
    assert phase[1:] == " Running     3.1 s · 2 of 2 workers"
    assert progress.strip("━╸╺ ") == "20 of 40 tasks (fit_and_score) · 10.0/s · 0:02 left"
    assert progress.count("━") + progress.count("╸") + progress.count("╺") == 28


def test_without_a_total_there_is_a_count_and_a_rate_but_no_bar(live):
    screen = live()
    screen.show(PhaseChanged(at=T, phase=Phase.RUNNING))
    screen.show(Progress(at=T + 1, done=5, total=None, call=1), Progress(at=T + 2, done=25, total=None, call=1))
    assert screen.lines()[-1] == "  25 tasks · 20.0/s"


def test_the_time_counts_on_between_events(live):
    screen = live()
    screen.show(PhaseChanged(at=T, phase=Phase.STARTING, message="waiting"))
    screen.now = T + 61
    screen.show()
    assert screen.lines() == [screen.lines()[0][0] + " Starting    1 min 01 s · waiting"]


def test_output_scrolls_above_without_a_trace_of_the_living_lines(live):
    screen = live(rows=10)
    screen.show(*SUCCESS[:8])
    for i in range(100):
        screen.show(Output(at=T + 4, line=f"line {i}"))
    text = screen.lines()
    printed = [line for line in text if line.startswith("line ")]
    assert printed == [f"line {i}" for i in range(100)]
    assert sum("Running" in line for line in text) == 1


def test_no_output_of_the_users_can_break_the_display(live):
    screen = live(columns=60)
    screen.show(PhaseChanged(at=T, phase=Phase.RUNNING))
    nasty = [
        "[red]markup[/red] [/] [link=x] :smile:",
        "\x1b[2J\x1b[H\x1b[10Acursor",
        "\x1b]0;title\x07titled",
        "\x1b[?25l\x1b[?1049hhidden",
        " 10%|#   |\r 20%|##  |\r100%|####|",
        "bell\x07 null\x00 \x9b31m c1",
        "\x1b[31mred",
        "x" * 10_000,
        "\x1b",
    ]
    screen.show(*(Output(at=T + 1, line=line) for line in nasty))
    assert screen.screen().cursor_is_visible is False  # ours: shown again at the end
    text = "\n".join(screen.lines())
    assert text.startswith(
        "[red]markup[/red] [/] [link=x] :smile:\ncursor\ntitled\nhidden\n100%|####|\nbell null 31m c1\nred\nxxxx"
    )
    assert text.replace("\n", "").count("x") < 4100
    assert "6,000 more characters" in text.replace("\n", "")
    assert "\x1b[31mred\x1b[0m\n" in screen.file.getvalue()
    assert screen.lines()[-1].endswith("Running     1.0 s")
    screen.display.close()
    assert screen.screen().cursor_is_visible


def test_long_messages_and_narrow_terminals_keep_the_living_lines_to_one_line_each(live):
    screen = live(columns=40)
    screen.show(PhaseChanged(at=T, phase=Phase.RUNNING, message="a very long message " * 10))
    screen.show(Progress(at=T, done=1, total=1_000_000, call=1, name="f" * 200))
    screen.show(Output(at=T, line="done"))
    assert len(screen.lines()) == 3
    assert screen.lines()[0] == "done"


def test_no_color_is_honoured_in_our_lines_and_the_users(live, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = live()
    screen.show(*SUCCESS, Output(at=T, line="\x1b[31mred\x1b[0m"))
    screen.display.close()
    assert "red" in screen.file.getvalue()
    assert "\x1b[3" not in screen.file.getvalue()


def test_where_stdout_is_a_file_it_gets_the_scripts_output_as_it_is(live):
    out = io.StringIO()
    screen = live(out=out)
    screen.show(*SUCCESS, Output(at=T, line="\x1b[31mraw"))
    screen.display.close()
    assert out.getvalue() == "loading [bold]flights[/bold]\n\x1b[31mraw\n"
    assert "loading" not in screen.file.getvalue()
    assert "UserWarning" in screen.file.getvalue()


def test_lines_of_workers_say_whose_they_are(live):
    screen = live()
    screen.show(Output(at=T, line="[CV] END", source="worker-1"))
    assert screen.lines() == ["worker-1 | [CV] END"]


def test_left_out_output_is_said(live):
    screen = live()
    screen.show(Output(at=T, line="on"), skipped=1234)
    assert screen.lines() == ["… 1,234 lines of output left out here; logs/runner.log has them", "on"]


def test_a_second_attempt_starts_its_phases_anew(live):
    screen = live()
    screen.show(
        PhaseChanged(at=T, phase=Phase.STARTING),
        PhaseChanged(at=T + 1, phase=Phase.RUNNING),
        PhaseChanged(at=T + 2, phase=Phase.FINALIZING),
        Notice(at=T + 3, message="attempt 1 failed"),
        PhaseChanged(at=T + 4, phase=Phase.STARTING, attempt=2),
        PhaseChanged(at=T + 5, phase=Phase.RUNNING, attempt=2),
    )
    assert screen.lines()[:4] == ["✓ Starting    1.0 s", "! attempt 1 failed", "Attempt 2", "✓ Starting    1.0 s"]
    assert screen.lines()[4].endswith("Running     0.0 s")


# The feed.


class Recorder:
    """A display that keeps what it gets, slowly."""

    tick_seconds = None

    def __init__(self, *, may_skip=False, frame=0.0, delay=0.0, error=None):
        self.may_skip = may_skip
        self.frame_seconds = frame
        self.delay = delay
        self.error = error
        self.events = []
        self.skipped = 0
        self.shows = 0
        self.closed = False

    def show(self, events, skipped):
        if self.error is not None:
            raise self.error
        time.sleep(self.delay)
        self.events += events
        self.skipped += skipped
        self.shows += 1

    def close(self):
        self.closed = True


def test_the_feed_keeps_order_and_shows_all_before_it_ends():
    display = Recorder(frame=0.05)
    with Feed(display) as feed:
        for i in range(20_000):
            feed(Output(line=str(i)))
    assert [event.line for event in display.events] == [str(i) for i in range(20_000)]
    assert display.closed


def test_ten_megabytes_pass_through_a_slow_display_without_waiting_for_it(live):
    screen = live()
    lines = [Output(at=T, line="x" * 99) for _ in range(100_000)]
    slow, fed = Recorder(frame=0.1), threading.Event()
    show = slow.show

    def show_once_all_is_fed(events, skipped):
        assert fed.wait(60), "the feed waits for its display"
        show(events, skipped)

    slow.show = show_once_all_is_fed
    with Feed(slow) as feed:
        for line in lines:
            feed(line)
        fed.set()
    assert feed.failure is None
    assert len(slow.events) == len(lines)
    assert slow.shows < 60
    used = time.process_time()
    with Feed(screen.display) as feed:
        for line in lines:
            feed(line)
    assert time.process_time() - used < 5
    assert screen.file.getvalue().count("x" * 99) == len(lines)


def test_a_reader_that_is_far_behind_misses_lines_only_where_that_is_allowed(monkeypatch):
    monkeypatch.setattr("dask_training.cli.watch.feed.QUEUE_CHARACTERS", 10_000)
    skipping, patient = (Recorder(may_skip=may_skip, delay=0.02) for may_skip in (True, False))
    for display in (skipping, patient):
        with Feed(display) as feed:
            for i in range(2000):
                feed(Output(line=str(i)))
            feed(SUCCESS[-1])
    assert skipping.skipped > 0
    assert skipping.skipped + len(skipping.events) == 2001
    assert skipping.events[-1] == SUCCESS[-1]
    assert len(patient.events) == 2001
    assert patient.skipped == 0


def test_a_run_that_is_being_stopped_does_not_wait_for_its_reader(monkeypatch):
    monkeypatch.setattr("dask_training.cli.watch.feed.QUEUE_CHARACTERS", 1000)
    released = threading.Event()
    display = Recorder()
    display.show = lambda events, skipped: released.wait(30)
    with Feed(display) as feed:
        started = time.monotonic()
        threading.Timer(0.3, feed.stop_waiting).start()
        for i in range(100):
            feed(Output(line=str(i)))
        assert 0.2 < time.monotonic() - started < 5 * slowdown()
        released.set()


def test_a_closed_pipe_stops_the_run_once_and_quietly():
    gone = []
    with Feed(Recorder(error=BrokenPipeError(32, "Broken pipe")), on_gone=lambda: gone.append(1)) as feed:
        for i in range(100):
            feed(Output(line=str(i)))
            time.sleep(0.001)
    assert gone == [1]
    assert feed.reader_gone
    assert feed.failure is None


def test_a_fault_of_the_display_does_not_end_the_run():
    gone = []
    with Feed(Recorder(error=RuntimeError("drawing")), on_gone=lambda: gone.append(1)) as feed:
        feed(SUCCESS[0])
    assert gone == []
    assert repr(feed.failure) == "RuntimeError('drawing')"


# What is derived.


def test_the_rate_is_of_the_last_seconds_and_of_one_call():
    speed = Speed()
    assert speed.per_second() is None
    for second in range(100):
        speed.add(
            Progress(at=T + second, done=second * 2 if second < 60 else 120 + (second - 60) * 10, total=600, call=1)
        )
    assert speed.per_second() == pytest.approx(10)
    assert speed.seconds_left(Progress(at=T + 99, done=510, total=600, call=1), T + 100) == pytest.approx(8)
    speed.add(Progress(at=T + 100, done=0, total=10, call=2))
    assert speed.per_second() is None


def test_tasks_that_take_longer_than_the_window_still_have_a_rate():
    speed = Speed()
    for i in range(4):
        speed.add(Progress(at=T + 60 * i, done=i, total=10, call=1))
    assert speed.per_second() == pytest.approx(1 / 60)


def test_a_failed_store_blames_finalizing():
    state = RunState("job")
    for event in FAILURE[:-1]:
        state.apply(event)
    state.apply(Finished(at=T, phase=Phase.FAILED, reason=Reason.ARTIFACT_STORE_FAILED, message="full", exit_code=74))
    assert state.failed_span().phase is Phase.FINALIZING


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (duration(0), "0.0 s"),
        (duration(59.94), "59.9 s"),
        (duration(59.96), "1 min 00 s"),
        (duration(3599.4), "59 min 59 s"),
        (duration(7380), "2 h 03 min"),
        (time_left(3.4), "0:03"),
        (time_left(3723), "1:02:03"),
        (size(0), "0 B"),
        (size(1023), "1023 B"),
        (size(1024), "1.0 KiB"),
        (size(431_000_000), "411 MiB"),
        (rate(1234.5), "1,234/s"),
        (rate(0.05), "3.0/min"),
        (number(0.1 + 0.2), "0.3"),
        (number(True), "true"),
        (number(None), "none"),
        (number(10**7), "10,000,000"),
        (plain("a\x1b[1mb\nc\x07"), "ab\nc"),
        (displayable("tab\tstays"), "tab\tstays"),
        (displayable("crlf\r"), "crlf"),
    ],
)
def test_numbers_and_text_read_well(text, shown):
    assert text == shown
