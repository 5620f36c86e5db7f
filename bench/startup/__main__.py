"""`python -m bench.startup`: measures, prints tables, and writes JSON to bench/results/.

It takes the kind cluster with our operator on it; dask-kubernetes is installed for the time of the run.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from bench.cluster import ROOT, BenchError, Cluster
from bench.command import add_options, save
from bench.startup.contenders import CONTENDERS, OURS, TUNED
from bench.startup.measure import measure
from bench.startup.report import machine, markdown, timeline

from dask_training.errors import DaskTrainingError

PAGE = ROOT / "docs" / "benchmarks" / "startup.md"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    add_options(parser, PAGE)
    parser.add_argument("--rounds", type=int, default=10, help="jobs of each contender, after one that is not counted")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="this contender; repeatable")
    parser.add_argument("--quick", action="store_true", help="one round of ours and the tuned DaskJob: that it works")
    parser.add_argument("--peer-is-there", action="store_true", help="dask-kubernetes is installed already, and stays")
    parser.add_argument("--trace", action="store_true", help="one more job of each, all that is seen of it printed")
    chosen = parser.parse_args()
    try:
        found = json.loads(chosen.again.read_text()) if chosen.again else _measure(chosen)
    except (BenchError, DaskTrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for each in found["traces"] if chosen.trace else ():
        print(f"\nTrace of {each['contender']}", *timeline(each), sep="\n")
    if any(each["contender"] == OURS for each in found["rounds"]):
        command = " ".join(["python -m bench.startup", *_options(found)])
        page = markdown(found["rounds"], found["machine"], command, chosen.note, traces=found["traces"])
        print(f"\n{page}")
        if chosen.docs:
            PAGE.write_text(page)
    return 0


def _measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures, and writes the JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it leaves nothing behind
    cluster = Cluster(chosen.cluster)
    operator = cluster.operator()
    found: dict[str, Any] = {"machine": machine(cluster, operator)}
    found |= measure(
        cluster,
        operator,
        chosen.only or ([OURS, TUNED] if chosen.quick else list(CONTENDERS)),
        rounds=1 if chosen.quick else chosen.rounds,
        warm_up=not chosen.quick,
        trace=chosen.trace,
        install=not chosen.peer_is_there,
        say=lambda line: print(line, flush=True),
    )
    save(found, "startup", chosen.output)
    return found


def _options(found: dict[str, Any]) -> list[str]:
    """What it takes to make the page so again."""
    rounds = sum(each["contender"] == OURS for each in found["rounds"])
    return [f"--rounds {rounds}", *(["--trace"] if found["traces"] else []), "--docs"]


if __name__ == "__main__":
    sys.exit(main())
