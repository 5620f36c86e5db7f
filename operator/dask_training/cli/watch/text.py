"""Numbers, times and foreign text as people read them on a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

LONGEST_LINE = 4000

# Colour and weight (SGR) may pass; anything else that a terminal obeys (cursor moves, titles, clearing) may not.
_SGR = r"\x1b\[[0-9;:]*m"
_ESCAPES = re.compile(
    rf"(?P<sgr>{_SGR})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other CSI sequences
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC: up to their end, or the line's
    r"|\x1b[ -/]*[0-~]?"  # two-character sequences, and a bare escape
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]"
)
_RESET = "\x1b[0m"
_STEPS = ("B", "KiB", "MiB", "GiB", "TiB")


def displayable(line: str, *, colour: bool = True, longest: int = LONGEST_LINE) -> str:
    """One line of foreign text, safe to put on a terminal.

    Like a terminal it shows what follows the last carriage return (progress bars), and it keeps colours if *colour*.
    What lies beyond *longest* characters is counted, not shown.
    """
    if line.isascii() and line.isprintable() and len(line) <= longest:
        return line  # nearly every line: the expressions below cost 20 times as much
    line = next((part for part in reversed(line.split("\r")) if part), "")
    beyond = len(line) - longest
    line = line[:longest]
    clean = _ESCAPES.sub(lambda match: (match["sgr"] or "") if colour else "", line)
    if beyond > 0:
        clean += f" … {beyond:,} more characters"
    if "\x1b" in clean:
        clean += _RESET
    return clean.encode("utf-8", "replace").decode("utf-8")


def plain(text: str) -> str:
    """Foreign text of several lines without anything that a terminal obeys, for messages."""
    return "\n".join(displayable(line, colour=False) for line in text.split("\n"))


def duration(seconds: float) -> str:
    """Such as `1.9 s`, `1 min 12 s`, `2 h 03 min`."""
    if seconds < 59.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def time_left(seconds: float) -> str:
    """Such as `0:03`, `1:02:03`: short, of a width that changes seldom."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def size(count: float) -> str:
    """A number of bytes, such as `412 MiB`."""
    for step in _STEPS:
        if count < 1024 or step == _STEPS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {step}" if count >= 100 or step == "B" else f"{count:.1f} {step}"


def rate(per_second: float) -> str:
    """Such as `12/s`, `3.4/s`, `8.0/min`."""
    if per_second >= 100:
        return f"{per_second:,.0f}/s"
    if per_second >= 0.5:
        return f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


def number(value: object) -> str:
    """A metric's value: six significant digits, thousands apart, other types as they are."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if isinstance(value, bool) else "none"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return plain(str(value))


def metrics_line(metrics: Mapping[str, object]) -> str:
    """Such as `accuracy 0.9312, rows 336,776`."""
    return ", ".join(f"{plain(name)} {number(value)}" for name, value in metrics.items())


def plural(count: int, one: str, many: str = "") -> str:
    """Such as `1 file`, `2 files`, `1,200 tasks`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def age(time: object, now: float) -> str:
    """How long ago a Kubernetes time was, as kubectl has it: `45s`, `12m`, `3h12m`, `2d4h`; "" for what is no time."""
    try:
        seconds = max(0, int(now - datetime.fromisoformat(str(time)).timestamp()))
    except ValueError:
        return ""
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 180:
        return f"{minutes}m"
    if hours < 48:
        return f"{hours}h{minutes % 60}m" if hours < 8 and minutes % 60 else f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"
