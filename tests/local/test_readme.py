"""Every command in the README is run, and shows what the README says it shows.

How to write a block that is tested:

- A fence ``` marked `console` holds commands after `$ ` (a line that ends with a backslash goes on in the next) and,
  below each, what it prints; `sh` holds commands alone. Comments start with `#`.
- All commands run in order, each in a shell of its own, in one clean copy of the project, with .venv's commands on the
  PATH, and have to end with exit code 0. One that is meant to fail says so: `dask-training validate bad.yaml || true`.
- A line of output is looked for in what was printed, after the one before it. Blanks and numbers may differ; `...` is
  anything, on a line of its own any lines.
- A command that can't be run here (it would take too long, or set up a machine) stands in ELSEWHERE with the test that
  runs it.
- `yaml` with `kind: DaskTrainingJob` has to be a valid job file; `python` has to compile.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dask_training.model import load_job_file

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
# Command -> the test that runs it.
ELSEWHERE = {
    "make run": "tests/local/test_make.py::test_make_run_sets_everything_up_and_trains",
    "make test": "tests/unit/test_project.py::test_ci_runs_what_the_readme_tells_people_to_run",
}


@dataclass(frozen=True)
class Command:
    """A command of the README and the lines that it is said to print."""

    line: str
    output: tuple[str, ...] = ()


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


COMMANDS = commands(README.read_text())


@pytest.fixture(scope="module")
def copy(project_files, tmp_path_factory) -> Path:
    """One clean copy of the project for all commands, for later ones build on earlier ones."""
    folder = tmp_path_factory.mktemp("readme")
    for path in project_files:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    return folder


def run(line: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command, as a user would have them with .venv active."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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
        timeout=170,
        check=False,
    )
    return done.returncode, done.stdout


# The README.


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.line not in ELSEWHERE], ids=lambda each: each.line
)
def test_a_command_does_what_the_readme_shows(copy, command):
    code, printed = run(command.line, copy)
    assert code == 0, printed
    lacks = missing(command.output, printed)
    assert lacks is None, f"not printed: {lacks}\n--- printed:\n{printed}"


@pytest.mark.parametrize(("command", "test"), ELSEWHERE.items())
def test_a_command_that_is_run_elsewhere_is_in_the_readme_and_has_its_test(command, test):
    assert command in [each.line for each in COMMANDS]
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_the_job_files_in_the_readme_are_valid():
    jobs = [block for block in blocks(README.read_text(), "yaml") if "kind: DaskTrainingJob" in block]
    assert jobs
    assert all(load_job_file(block, source="README.md").jobs for block in jobs)


def test_the_python_in_the_readme_compiles():
    for block in blocks(README.read_text(), "python"):
        compile(block, "README.md", "exec")


# The machinery.

SAMPLE = """
Text with `$ not a command`.

```sh
# a comment
make run  # trains
echo a \\
  b
```

```console
$ echo two lines; echo 17 of 20 # with a remark
two lines
...
3 of 4
$ true
```

```yaml
not: a command
```
"""


def test_commands_are_found_with_what_they_print():
    assert commands(SAMPLE) == [
        Command("make run"),
        Command("echo a b"),
        Command("echo two lines; echo 17 of 20", ("two lines", "...", "3 of 4")),
        Command("true"),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "lacks"),
    [
        (("a", "b"), "a\nb\n", None),
        (("a", "b"), "b\na\n", "b"),
        (("a", "...", "c"), "a\nx\ny\nc\n", None),
        (("took 3.5 s",), "  took   12 s", None),
        (("took 3.5 s",), "took long", "took 3.5 s"),
        (("run ... done",), "run 7 is done", None),
        (("(x)",), "x", "(x)"),
        ((), "anything", None),
    ],
)
def test_output_is_compared_loosely_but_in_order(expected, printed, lacks):
    assert missing(expected, printed) == lacks


def test_commands_run_with_the_environments_own_tools(tmp_path):
    assert run("dask-training --version", tmp_path)[0] == 0
    assert run("false | true", tmp_path)[0] == 1
