"""Copies each example's train.py into its job.yaml, as `spec.runner.script`: edit train.py, then run this.

python examples/sync.py            # writes the job.yaml files
python examples/sync.py --check    # writes nothing; exit code 1 and a line for each that is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = re.compile(r"^(?P<indent> *)script: \|\n(?:\n*(?P=indent)  .*\n)*", re.MULTILINE)


def with_script(job: str, script: str) -> str:
    """`job` with `script` in place of its `script: |` block; everything else stays, comments too."""
    found = SCRIPT.search(job)
    if found is None:
        raise SystemExit("no `script: |` block in the job file")
    indent = found["indent"] + "  "
    block = "".join(indent + line if line.strip() else line for line in script.splitlines(keepends=True))
    return f"{job[: found.start()]}{found['indent']}script: |\n{block}{job[found.end() :]}"


def main(arguments: list[str]) -> int:
    """Brings all job files up to date, or with --check only says which are not."""
    outdated = 0
    for script in sorted(HERE.glob("*/train.py")):
        job = script.with_name("job.yaml")
        before = job.read_text(encoding="utf-8")
        after = with_script(before, script.read_text(encoding="utf-8"))
        if before == after:
            continue
        if arguments == ["--check"]:
            print(f"{job}: not the same as {script.name}; run: python examples/sync.py")
            outdated = 1
        else:
            job.write_text(after, encoding="utf-8")
            print(f"{job}: updated")
    return outdated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
