"""Writes what the charts take from elsewhere: `python docs/reference/charts.py`; `--check` only compares.

The tables of values in the charts' READMEs come from the comments in values.yaml, and dask-training-job's
values.schema.json from the CRD, so that a job's values are checked before the API server sees them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
CRD = CHARTS / "dask-training-operator" / "files" / "crd.yaml"
BEGIN, END = "<!-- values: written by docs/reference/charts.py -->", "<!-- end of values -->"
# What JSON Schema doesn't know, or what must not be said twice: defaults are the API's.
NOT_IN_VALUES = {"default", "format"}
QUANTITY = {"type": ["string", "integer", "number"]}


def documented(text: str) -> Iterator[tuple[str, Any, str]]:
    """Path, default and comment of each value: each key with a comment right above it, and only those."""
    lines = text.splitlines()

    def walk(node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Any, str]]:
        for key, value in node.value:
            place = f"{path}.{key.value}" if path else key.value
            comment = above(lines, key.start_mark.line)
            if comment:
                yield place, yaml.safe_load(yaml.serialize(value)), comment
            elif isinstance(value, yaml.MappingNode) and value.value:
                yield from walk(value, place)
            else:
                raise SystemExit(f"values.yaml: {place} has no comment that says why one would change it")

    yield from walk(yaml.compose(text, Loader=yaml.SafeLoader), "")


def above(lines: list[str], line: int) -> str:
    """The comment that ends on the line before this one."""
    comment: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        comment.insert(0, lines[line].lstrip().removeprefix("#").strip())
    return " ".join(comment)


def table(values: str) -> str:
    """The whole table, Markdown."""
    rows = ["| value | default | why change it |", "| --- | --- | --- |"]
    rows += [f"| `{path}` | {default_of(value)} | {cell(comment)} |" for path, value, comment in documented(values)]
    return "\n".join(rows)


def default_of(value: Any) -> str:
    """As one would write it in YAML."""
    return "" if value in ("", None) else f"`{cell(value if isinstance(value, str) else json.dumps(value))}`"


def cell(text: str) -> str:
    """A table's cell: no bar and no tag of its own."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def readme(chart: Path) -> str:
    """The chart's README with its table as it should be."""
    before, _, rest = (chart / "README.md").read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table((chart / 'values.yaml').read_text())}\n\n{END}{after}"


def job_schema() -> str:
    """values.schema.json of dask-training-job: its own values, and beside them the fields of a job's spec."""
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    spec = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    name = {"type": "string", "maxLength": 40, "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"}
    own = {
        "global": {"type": "object", "description": "Helm's own: what a parent chart gives to all its charts."},
        "name": name | {"description": "The job's name; the release's if empty."},
        "labels": strings | {"description": "Labels of the job."},
        "annotations": strings | {"description": "Annotations of the job."},
        "codeFiles": strings | {"description": "Files that are importable in every pod, by name."},
    }
    # `runner: {}` and `workers: {}` of values.yaml are no mistake: the API server decides on what is missing.
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart dask-training-job",
        "type": "object",
        "additionalProperties": False,
        "properties": own | spec["properties"],
    }
    return dump(schema) + "\n"


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema of the CRD as JSON Schema that refuses unknown fields."""
    if schema.get("x-kubernetes-int-or-string"):
        schema = QUANTITY | {key: value for key, value in schema.items() if key != "maxLength"}
    plain = {k: v for k, v in schema.items() if k not in NOT_IN_VALUES and not k.startswith("x-kubernetes-")}
    if "properties" in plain:
        plain["properties"] = {name: closed(field) for name, field in plain["properties"].items()}
        plain["additionalProperties"] = False
    for below in ("items", "additionalProperties"):
        if isinstance(plain.get(below), dict):
            plain[below] = closed(plain[below])
    return plain


def dump(value: Any, indent: int = 0) -> str:
    """JSON with what fits a line on one line."""
    flat = json.dumps(value)
    if len(flat) + indent <= 140 or not isinstance(value, dict) or not value:
        return flat
    pad = " " * (indent + 2)
    fields = [f"{pad}{json.dumps(key)}: {dump(below, indent + 2)}" for key, below in value.items()]
    return "{\n" + ",\n".join(fields) + "\n" + " " * indent + "}"


def main() -> int:
    """Exit code 1 where `--check` finds a file out of date."""
    files = {chart / "README.md": readme(chart) for chart in sorted(CHARTS.iterdir()) if chart.is_dir()}
    files[CHARTS / "dask-training-job" / "values.schema.json"] = job_schema()
    if "--check" in sys.argv[1:]:
        outdated = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is out of date: make docs", file=sys.stderr)
        return int(bool(outdated))
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
