"""Writes docs/job-file.md's table of fields from the CRD: `python docs/reference/make.py`; `--check` only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CRD = ROOT / "charts" / "dask-training-operator" / "files" / "crd.yaml"
PAGE = ROOT / "docs" / "job-file.md"
BEGIN, END = "<!-- fields: written by docs/reference/make.py -->", "<!-- end of fields -->"
# As in a pod, where Kubernetes' own documentation says more than a row here could.
AS_IN_A_POD = {"env", "envFrom", "volumes", "volumeMounts", "tolerations", "affinity", "resources", "nodeSelector"}


def rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """Path, type, default and description of every field below `path`."""
    for name, field in schema.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        yield place, kind(field), default_of(field), field.get("description", "")
        if name not in AS_IN_A_POD:
            below = field.get("items", field)
            yield from rows(below, f"{place}[]" if "items" in field else place)


def default_of(field: dict[str, Any]) -> str:
    """The default of a plain value; that of a mapping is the sum of its fields' own."""
    default = field.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def kind(field: dict[str, Any]) -> str:
    """What a value looks like, in a word or two."""
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if field["type"] == "array":
        return f"list of {kind(field['items'])}"
    return {"object": "mapping", "boolean": "true \\| false"}.get(field["type"], field["type"])


def table() -> str:
    """The whole table, Markdown."""
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    lines = ["| field of `spec` | value | default | what it does |", "| --- | --- | --- | --- |"]
    lines += [f"| `{path}` | {what} | {default} | {text} |" for path, what, default, text in rows(spec, "")]
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 where `--check` finds the page out of date."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if "--check" in sys.argv:
        return 0 if page == PAGE.read_text() else 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
