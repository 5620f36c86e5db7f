"""Every command in the README is run, and shows what the README says it shows: tests/support/readme.py says how.

Those of the section "On Kubernetes" are run by tests/e2e/test_readme.py, the others here: in one clean copy of the
project, with .venv's commands on the PATH. One that can't be run here (it would take too long, or set up a machine)
stands in ELSEWHERE with the test that runs it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from readme import ON_KUBERNETES, README, ROOT, Command, blocks, commands, missing, run, section

from dask_training.model import load_job_file

# Command -> the test that runs it.
ELSEWHERE = {
    "make run": "tests/local/test_make.py::test_make_run_sets_everything_up_and_trains",
    "make test": "tests/unit/test_project.py::test_ci_runs_what_the_readme_tells_people_to_run",
}
TEXT = README.read_text()
COMMANDS = commands(TEXT.replace(section(TEXT, ON_KUBERNETES), ""))


@pytest.fixture(scope="module")
def copy(project_files, tmp_path_factory) -> Path:
    """One clean copy of the project for all commands, for later ones build on earlier ones."""
    folder = tmp_path_factory.mktemp("readme")
    for path in project_files:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    return folder


# The README.


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each.line not in ELSEWHERE], ids=lambda each: each.line
)
def test_a_command_does_what_the_readme_shows(copy, command):
    code, printed = run(command.line, copy, {"KUBECONFIG": str(copy / "none")})  # as where no Kubernetes is configured
    assert code == 0, printed
    lacks = missing(command.output, printed)
    assert lacks is None, f"not printed: {lacks}\n--- printed:\n{printed}"


@pytest.mark.parametrize(("command", "test"), ELSEWHERE.items())
def test_a_command_that_is_run_elsewhere_is_in_the_readme_and_has_its_test(command, test):
    assert command in [each.line for each in COMMANDS]
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_the_job_files_in_the_readme_are_valid():
    jobs = [block for block in blocks(TEXT, "yaml") if "kind: DaskTrainingJob" in block]
    assert jobs
    assert all(load_job_file(block, source="README.md").jobs for block in jobs)


def test_the_python_in_the_readme_compiles():
    for block in blocks(TEXT, "python"):
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
