"""What the benchmarks on a cluster have in common as commands: options, and where their JSON goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cluster import ROOT


def add_options(parser: argparse.ArgumentParser, page: Path) -> None:
    """The cluster, where results go, and whether the page in docs/ is written."""
    parser.add_argument("--cluster", default="dask-training", help="name of the kind cluster")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results", help="folder for the JSON")
    parser.add_argument("--again", type=Path, help="measure nothing: the page from the JSON of an earlier run")
    parser.add_argument("--docs", action="store_true", help=f"write {page.relative_to(ROOT)} as well")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what ran beside it")


def save(found: Mapping[str, Any], name: str, folder: Path) -> None:
    """Writes the results into a file of the folder, by this name and by when they were measured; prints its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{found['machine']['time'].replace(':', '')}.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    print(target)
