"""docs/workloads.md: every row is there, and what it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "workloads.md").read_text()
GROUPS = {"J": (1, 11), "D": (1, 15), "M": (1, 13), "F": (1, 12), "O": (1, 7), "E": (1, 6), "C": (3, 4), "B": (1, 9)}
ROWS = [f"{group}{number}" for group, (first, last) in GROUPS.items() for number in range(first, last + 1)]
CELLS = {
    row[0]: row[2]
    for line in PAGE.splitlines()
    if len(row := [cell.strip() for cell in line.strip("|").split(" | ")]) == 3 and re.fullmatch(r"[A-Z]\d+", row[0])
}
NAMED = sorted(set(re.findall(r"`((?:bench|charts|docs|examples|images|tests)/[^`]*)`", PAGE)))


@cache
def _tests_in(path: Path) -> dict[str, str]:
    """The tests of a file, with the file's text: pytest's ids of parameters are somewhere in it."""
    text = path.read_text()
    return {node.name: text for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_there_once_and_in_order():
    assert list(CELLS) == ROWS
    assert len(re.findall(r"^\| [A-Z]\d+ \|", PAGE, re.MULTILINE)) == len(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_what_shows_it_or_says_why_not(row):
    shown = [name for name in NAMED if f"`{name}`" in CELLS[row]]
    assert [name for name in shown if "::test_" in name] or "Refused: " in CELLS[row]


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name):
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    if test:
        function, _, parameter = test.partition("[")
        tests = _tests_in(ROOT / path)
        assert function in tests
        assert parameter.removesuffix("]") in tests[function]
