"""`python -m bench.many_jobs`: measures, prints a page, and writes JSON to bench/results/.

It takes the kind cluster with our operator on it, and starts that anew.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from bench.cluster import ROOT, BenchError, Cluster
from bench.command import add_options, save
from bench.machine import machine
from bench.many_jobs.measure import measure
from bench.many_jobs.report import markdown

from dask_training.errors import DaskTrainingError

PAGE = ROOT / "docs" / "benchmarks" / "many-jobs.md"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.many_jobs", description=__doc__)
    add_options(parser, PAGE)
    parser.add_argument("--jobs", type=int, default=1000, help="that are applied at once, with four pods each")
    parser.add_argument("--suspended", type=int, default=4000, help="jobs without pods, beside those")
    parser.add_argument("--probes", type=int, default=100, help="jobs that come one after the other, for latencies")
    chosen = parser.parse_args()
    try:
        found = json.loads(chosen.again.read_text()) if chosen.again else _measure(chosen)
    except (BenchError, DaskTrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    numbers = f"--jobs {found['jobs']} --suspended {found['suspended']} --probes {len(found['idle']['latencies'])}"
    page = markdown(found, f"python -m bench.many_jobs {numbers}", chosen.note)
    print(f"\n{page}")
    if chosen.docs:
        PAGE.write_text(page)
    return 0


def _measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures, and writes the JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it leaves nothing behind
    cluster = Cluster(chosen.cluster)
    operator = cluster.operator()
    where = machine(["dask-training"]) | {"kubernetes": cluster.version, "image": operator.image}
    found = {"machine": where} | measure(
        cluster,
        operator,
        jobs=chosen.jobs,
        suspended=chosen.suspended,
        probes=chosen.probes,
        say=lambda line: print(line, flush=True),
    )
    save(found, "many-jobs", chosen.output)
    return found


if __name__ == "__main__":
    sys.exit(main())
