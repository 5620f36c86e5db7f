"""A terminal in memory: what a person would see of a program's output, as text or as a picture."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path

_TOKEN = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]"
    r"|(?P<control>[\x00-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)


class Screen:
    """Understands what programs write to a terminal line by line: text, colours, cursor moves, erasing.

    Lines that scroll out at the top are kept, in `lines` with the others. All characters are taken as one column wide.
    """

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self.columns = columns
        self.rows = rows
        self.cursor_is_visible = True
        self._lines: list[list[tuple[str, str]]] = [[]]
        self._row = 0
        self._column = 0
        self._style = ""

    @property
    def lines(self) -> list[str]:
        """The text of all lines, without spaces at their ends, down to the last that is not empty."""
        texts = ["".join(character for character, _ in line).rstrip() for line in self._lines]
        while texts and not texts[-1]:
            texts.pop()
        return texts

    def ansi(self) -> str:
        """All lines with their colours, and without any cursor moves."""
        return "\n".join(self._ansi_line(line) for line in self._lines[: len(self.lines)])

    def feed(self, text: str) -> None:
        """Take in what a program has written; a sequence must not be cut in two."""
        for token in _TOKEN.finditer(text):
            if token["text"]:
                self._write(token["text"])
            elif token["control"]:
                self._control(token["control"])
            elif token["final"]:
                self._sequence(token["parameters"], token["final"])

    def _write(self, text: str) -> None:
        for character in text:
            if self._column == self.columns:
                self._column = 0
                self._next_line()
            line = self._lines[self._row]
            line.extend([(" ", "")] * (self._column + 1 - len(line)))
            line[self._column] = (character, self._style)
            self._column += 1

    def _control(self, character: str) -> None:
        if character == "\n":
            self._next_line()
        elif character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(self.columns - 1, self._column // 8 * 8 + 8)

    def _next_line(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _sequence(self, parameters: str, final: str) -> None:
        numbers = [int(number) for number in parameters.split(";") if number.isdigit()]
        count = max(1, numbers[0] if numbers else 1)
        if final == "m":
            self._style = "" if parameters in {"", "0"} else f"{self._style}\x1b[{parameters}m"
        elif final == "A":
            # What has scrolled out of sight is out of reach.
            self._row = max(0, len(self._lines) - self.rows, self._row - count)
        elif final == "B":
            self._row = min(len(self._lines) - 1, self._row + count)
        elif final == "C":
            self._column = min(self.columns - 1, self._column + count)
        elif final == "D":
            self._column = max(0, self._column - count)
        elif final == "G":
            self._column = min(self.columns, count) - 1
        elif final == "K":
            self._erase(numbers[0] if numbers else 0)
        elif final == "J":
            self._erase(0)
            del self._lines[self._row + 1 :]
        elif final in "hl" and parameters == "?25":
            self.cursor_is_visible = final == "h"

    def _erase(self, part: int) -> None:
        line = self._lines[self._row]
        if part == 2:
            line.clear()
        elif part == 1:
            line[: self._column + 1] = [(" ", "")] * min(len(line), self._column + 1)
        else:
            del line[self._column :]

    @staticmethod
    def _ansi_line(line: Sequence[tuple[str, str]]) -> str:
        parts, style = [], ""
        for character, its_style in line:
            if its_style != style:
                parts.append(f"\x1b[0m{its_style}")
                style = its_style
            parts.append(character)
        return "".join(parts).rstrip() + ("\x1b[0m" if style else "")


class Session:
    """A program on a pseudo-terminal of its own; `chunks` has what it wrote, each piece with the seconds it came at."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 100,
        rows: int = 30,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.columns = columns
        self.rows = rows
        self.chunks: list[tuple[float, str]] = []
        self._started = time.monotonic()
        self._rest = b""
        self._code: int | None = None
        self._bytes_per_second: int | None = None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            if cwd is not None:
                os.chdir(cwd)
            # This terminal's size counts, not that of another that the environment speaks of.
            here = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
            os.execvpe(command[0], list(command), {**here, "TERM": "xterm-256color", **(env or {})})
        ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, text: str) -> None:
        """Type *text*."""
        os.write(self._terminal, text.encode())

    def wait_for(self, seen: Callable[[Screen], bool], *, seconds: float) -> Screen:
        """Read until *seen* says so of the screen; raises TimeoutError, with the screen's text, if it does not."""
        deadline = time.monotonic() + seconds
        while not seen(self.screen()):
            if not self._read(deadline):
                raise TimeoutError("\n".join(self.screen().lines))
        return self.screen()

    def wait(self, *, seconds: float) -> int:
        """Read to the program's end; its exit code (negative: a signal's). Raises TimeoutError; it is killed then."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        if not self._reap(deadline):
            self.end()
            raise TimeoutError("\n".join(self.screen().lines))
        assert self._code is not None
        return self._code

    def end(self) -> None:
        """Kill the program if it still runs."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap(time.monotonic() + 10)

    def slow(self, *, bytes_per_second: int) -> None:
        """From now on read no faster than that."""
        self._bytes_per_second = bytes_per_second

    def tail(self, characters: int = 20_000) -> Screen:
        """The screen that the last of the output alone makes: quick, however much came before."""
        screen = Screen(self.columns, self.rows)
        screen.feed("".join(text for _, text in self.chunks)[-characters:])
        return screen

    def screen(self, *, at: float = float("inf")) -> Screen:
        """The screen as it was *at* seconds after the start; now by default."""
        screen = Screen(self.columns, self.rows)
        screen.feed("".join(text for when, text in self.chunks if when <= at))
        return screen

    def _reap(self, deadline: float) -> bool:
        """Wait for the program, which has closed its terminal; whether it has ended by *deadline*."""
        while self._code is None and time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                os.close(self._terminal)
            else:
                time.sleep(0.01)
        return self._code is not None

    def _read(self, deadline: float) -> bool:
        """Read what there is; False at the end of the output or of the time."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # the last process that had the terminal is gone
            return False
        if self._bytes_per_second is not None:
            time.sleep(len(data) / self._bytes_per_second)
        whole, self._rest = _whole_sequences(self._rest + data)
        self.chunks.append((time.monotonic() - self._started, whole))
        return bool(data)


def _whole_sequences(data: bytes) -> tuple[str, bytes]:
    """*data* up to the last place where neither a character nor an escape sequence is cut in two, and the rest."""
    end = len(data)
    escape = data.rfind(b"\x1b", max(0, end - 32))
    if escape >= 0 and not _TOKEN.match(data[escape:].decode("utf-8", "replace")):
        end = escape
    while end > 0 and len(data) - end < 4:
        try:
            return data[:end].decode(), data[end:]
        except UnicodeDecodeError:
            end -= 1
    return data.decode("utf-8", "replace"), b""
