"""`python -m bench.workloads`: measures, writes a JSON file for each case, and makes table and plots from all of them.

A case that was measured before is kept until it is measured again, so an interrupted run goes on with --case.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from bench.processes import ONE_THREAD, ROOT

os.environ.update(ONE_THREAD)

from bench.workloads.cases import CASES
from bench.workloads.measure import BenchError, measure
from bench.workloads.plots import plot
from bench.workloads.report import markdown

PAGE = ROOT / "docs" / "benchmarks" / "workloads.md"
IMAGES = ROOT / "docs" / "images"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.workloads", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two workers: that it works, not how fast")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="this case; repeatable")
    parser.add_argument("--rounds", type=int, help="rounds of each case, instead of its own number")
    parser.add_argument("--again", action="store_true", help="measure nothing: table and plots from what there is")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "bench" / "results" / "workloads", help="folder for all files"
    )
    parser.add_argument("--docs", action="store_true", help=f"write {PAGE.relative_to(ROOT)} and its plots as well")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what ran beside it")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left
    warnings.simplefilter("ignore", FutureWarning)  # dask_ml's, at its import
    chosen.output.mkdir(parents=True, exist_ok=True)
    try:
        if not chosen.again:
            _measure(chosen)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = _read(chosen.output)
    if not results:
        print(f"error: no results in {chosen.output}: run it without --again", file=sys.stderr)
        return 1
    command = f"python -m bench.workloads{' --quick' if any(each['quick'] for each in results.values()) else ''}"
    page = markdown(results, command, chosen.note, images="plots")
    (chosen.output / "workloads.md").write_text(page)
    plot(results, chosen.output / "plots")
    print(f"\n{page}\n{chosen.output}")
    if chosen.docs:
        PAGE.write_text(markdown(results, f"{command} --docs", chosen.note, images="../images"))
        plot(results, IMAGES)
    return 0


def _measure(chosen: argparse.Namespace) -> None:
    """Measure the chosen cases, each into its file as soon as it is done."""
    cases = [case for case in CASES if not chosen.case or case.name in chosen.case]
    for case, found in measure(
        cases, quick=chosen.quick, rounds=chosen.rounds, say=lambda line: print(line, flush=True)
    ):
        (chosen.output / f"{case.name}.json").write_text(json.dumps(found, indent=1) + "\n")


def _read(folder: Path) -> dict[str, Any]:
    files = [folder / f"{case.name}.json" for case in CASES]
    return {file.stem: json.loads(file.read_text()) for file in files if file.exists()}


if __name__ == "__main__":
    sys.exit(main())
