"""Makes the files of the examples that follow from others: edit train.py or session.py, then run this.

Copies each example's train.py into its job.yaml, as `spec.runner.script`, and makes session.ipynb of session.py, whose
cells begin with `# %%`.

python examples/sync.py            # writes the files
python examples/sync.py --check    # writes nothing; exit code 1 and a line for each that is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = re.compile(r"^(?P<indent> *)script: \|\n(?:\n*(?P=indent)  .*\n)*", re.MULTILINE)
CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.MULTILINE)


def with_script(job: str, script: str) -> str:
    """`job` with `script` in place of its `script: |` block; everything else stays, comments too."""
    found = SCRIPT.search(job)
    if found is None:
        raise SystemExit("no `script: |` block in the job file")
    indent = found["indent"] + "  "
    block = "".join(indent + line if line.strip() else line for line in script.splitlines(keepends=True))
    return f"{job[: found.start()]}{found['indent']}script: |\n{block}{job[found.end() :]}"


def notebook_of(script: str) -> str:
    """A notebook, without outputs, of a script in the percent format."""
    starts = list(CELL.finditer(script))
    ends = [start.start() for start in starts[1:]] + [len(script)]
    cells = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        text = script[start.end() : end].strip("\n")
        markdown = start["kind"] is not None
        if markdown:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cell: dict[str, object] = {"cell_type": "markdown" if markdown else "code"}
        cell |= {} if markdown else {"execution_count": None}
        cell |= {"id": f"cell-{number}", "metadata": {}}
        cell |= {} if markdown else {"outputs": []}
        cells.append(cell | {"source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def made() -> Iterator[tuple[Path, Path, str]]:
    """Each file that is made, the file that it is made of, and what it is to hold."""
    for script in sorted(HERE.glob("*/train.py")):
        job = script.with_name("job.yaml")
        yield job, script, with_script(job.read_text(encoding="utf-8"), script.read_text(encoding="utf-8"))
    for script in sorted(HERE.glob("session/session.py")):
        yield script.with_suffix(".ipynb"), script, notebook_of(script.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    """Brings all files up to date, or with --check only says which are not."""
    outdated = 0
    for path, source, after in made():
        if path.exists() and path.read_text(encoding="utf-8") == after:
            continue
        if arguments == ["--check"]:
            print(f"{path}: not the same as {source.name}; run: python examples/sync.py")
            outdated = 1
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{path}: updated")
    return outdated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
