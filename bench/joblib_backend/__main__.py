"""`python -m bench.joblib_backend`: measures, prints a table, and writes JSON to bench/results/."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from bench.processes import ONE_THREAD, ROOT

os.environ.update(ONE_THREAD)

from bench.joblib_backend.cases import CASES
from bench.joblib_backend.measure import measure
from bench.joblib_backend.report import PACKAGES, markdown
from bench.machine import machine

PAGE = ROOT / "docs" / "benchmarks" / "joblib-backend.md"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.joblib_backend", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes of a second or two: that it works, not how fast")
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES], help="this case; repeatable")
    parser.add_argument("--rounds", type=int, help="rounds of each case, instead of its own number")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results", help="folder for the JSON")
    parser.add_argument("--docs", action="store_true", help=f"write {PAGE.relative_to(ROOT)} as well")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what ran beside it")
    chosen = parser.parse_args()
    where = machine(PACKAGES)
    results = measure(
        chosen.only or [case.name for case in CASES],
        quick=chosen.quick,
        rounds=chosen.rounds or (1 if chosen.quick else None),
        memory=not chosen.no_memory,
        say=lambda line: print(line, flush=True),
    )
    chosen.output.mkdir(parents=True, exist_ok=True)
    target = chosen.output / f"joblib-backend-{where['time'].replace(':', '')}.json"
    target.write_text(json.dumps({"machine": where, "quick": chosen.quick, "results": results}, indent=2) + "\n")
    page = markdown(results, where, "python -m bench.joblib_backend --docs", chosen.note)
    print(f"\n{page}\n{target}")
    if chosen.docs:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
