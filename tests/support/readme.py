"""The commands of the README, taken apart so that tests can run them.

How to write a block that is tested:

- A fence ``` marked `console` holds commands after `$ ` (a line that ends with a backslash goes on in the next) and,
  below each, what it prints; `sh` holds commands alone. Comments start with `#`.
- All commands of a section run in order, each in a shell of its own, and have to end with exit code 0. One that is
  meant to fail says so: `dask-training validate bad.yaml || true`.
- A line of output is looked for in what was printed, after the one before it. Blanks and numbers may differ; `...` is
  anything, on a line of its own any lines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ON_KUBERNETES = "On Kubernetes"


@dataclass(frozen=True)
class Command:
    """A command of the README and the lines that it is said to print."""

    line: str
    output: tuple[str, ...] = ()


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[Command]:
    """The commands of all `console` and `sh` blocks, in order."""
    found = []
    for language, block in re.findall(r"^```(console|sh)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if language == "sh":
            found += [Command(line) for line in map(uncommented, lines) if line]
            continue
        parts = re.split(r"^\$ ", "\n".join(lines), flags=re.MULTILINE)
        assert not parts[0].strip(), f"output without a command: {parts[0]!r}"
        for part in parts[1:]:
            line, *output = part.splitlines()
            found.append(Command(uncommented(line), tuple(each for each in output if each.strip())))
    return found


def uncommented(line: str) -> str:
    return re.sub(r"(^|\s+)#\s.*$", "", line).strip()


def missing(expected: tuple[str, ...], printed: str) -> str | None:
    """The first expected line that was not printed after the ones before it."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in expected:
        if line.strip() == "...":
            continue
        parts = re.split(r"(\.\.\.|\d+(?:[.,]\d+)*)", " ".join(line.split()))
        pattern = "".join(
            ".*" if part == "..." else r"[\d.,]+" if part[:1].isdigit() else re.escape(part) for part in parts
        )
        if not any(re.search(pattern, each) for each in lines):
            return line
    return None


def run(
    line: str, folder: Path, variables: Mapping[str, str] | None = None, *, timeout: float = 170
) -> tuple[int, str]:
    """Exit code and output of a command, as a user would have them with .venv active."""
    given = os.environ | dict(variables or {})
    environment = given | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout
