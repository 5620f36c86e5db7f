"""YAML as Kubernetes reads it, with lines; errors in plain words."""

from __future__ import annotations

import json

import pytest

from dask_training.model import JobFileError
from dask_training.model.documents import read_documents


def values(text):
    return [document.value for document in read_documents(text, source="job.yaml")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "a: b: c\n",
            1,
            "invalid YAML at column 5: a second ': ' in one line, or wrong indentation; put a text with ': ' in quotes",
        ),
        ("a:\n\t- b\n", 2, "invalid YAML at column 1: a tab; indent with spaces"),
        (
            "a:\n  b: 1\n c: 2\n",
            3,
            "invalid YAML at column 2: this line's indentation fits none of the lines above (in what begins on line 1)",
        ),
        (
            "a: [1, 2\nb: 3\n",
            2,
            "invalid YAML at column 2: a '[' is not closed, or a ',' is missing (in what begins on line 1)",
        ),
        (
            "a: {x: 1\nb: 2\n",
            2,
            "invalid YAML at column 2: a '{' is not closed, or a ',' is missing (in what begins on line 1)",
        ),
        ("a: 'x\nb: 1\n", 3, "invalid YAML at column 1: a quote is opened, but not closed (in what begins on line 1)"),
        (
            'a: "x" y\n',
            1,
            "invalid YAML at column 8: text after a closing quote, or an indentation that fits none of the lines above",
        ),
        ("a: *b\n", 1, "invalid YAML at column 4: an alias (*name) without its anchor (&name)"),
        ("a: !foo x\n", 1, "invalid YAML at column 4: tags such as !name are not known here"),
        ("a: !!binary aGk=\n", 1, "invalid YAML at column 4: tags such as !name are not known here"),
        ("a: !!int two\n", 1, "invalid YAML at column 4: 'two' does not fit its tag"),
        ("a: @x\n", 1, "invalid YAML at column 4: a text that starts with @, ` or % must be in quotes"),
        ("? [a]\n: b\n", 1, "invalid YAML at column 3: a key must be text"),
        ('a: "\\ud83d"\n', 1, "invalid YAML at column 4: half a surrogate pair"),
        ('"\\ud83d": 1\n', 1, "invalid YAML at column 1: half a surrogate pair"),
        ("<<: 3\n", 1, "invalid YAML at column 5: '<<' needs a mapping"),
        ("a: 1\nb: \x01\n", 2, "invalid YAML: the character U+0001 is not allowed"),
        ("a: &x [*x]\n", None, "is nested too deeply"),
        ("a: " + "[" * 3000, None, "is nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_explained_with_its_line_and_column(text, line, message):
    with pytest.raises(JobFileError) as caught:
        values(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message, problem.path) == (line, message, "")


def test_every_key_that_is_given_twice_is_named_with_both_lines():
    with pytest.raises(JobFileError) as caught:
        values("a: 1\nb:\n  - {c: 1}\n  - c: 1\n    c: 2\na: 2\n")
    assert str(caught.value).splitlines() == [
        "job.yaml:5: b[1].c: is given twice, here and on line 4",
        "job.yaml:6: a: is given twice, here and on line 1",
    ]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("012", 10),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("22:22", "22:22"),
        ("2024-01-02", "2024-01-02"),
        ("1.2.3", "1.2.3"),
        ("500m", "500m"),
        ("09", 9.0),
        ("'1'", "1"),
        ("y", "y"),
    ],
)
def test_scalars_are_read_as_the_api_server_reads_them(scalar, value):
    (document,) = values(f"a: {scalar}\n")
    assert document == {"a": value}
    assert type(document["a"]) is type(value)


def test_keys_are_text():
    assert values("1: a\ntrue: b\n") == [{"1": "a", "true": "b"}]


def test_anchors_aliases_and_merges_are_followed():
    assert values("base: &b {x: 1, y: 2}\nmade: {<<: *b, y: 3}\nboth: {<<: [*b, {z: 1}]}\n") == [
        {"base": {"x": 1, "y": 2}, "made": {"x": 1, "y": 3}, "both": {"x": 1, "y": 2, "z": 1}}
    ]


def test_aliases_of_aliases_can_t_exhaust_the_memory():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(JobFileError, match=r"^job.yaml: has too many values, with its aliases: at most 200,000$"):
        values("\n".join(levels))


def test_a_huge_file_is_refused():
    with pytest.raises(JobFileError, match=r"^job.yaml: is too large: 5,000,000 characters, at most 4,194,304$"):
        values("x" * 5_000_000)


def test_empty_documents_are_left_out():
    assert values("# nothing\n---\na: 1\n---\n---\n# nothing\n") == [{"a": 1}]


def test_the_objects_of_a_list_are_documents():
    (first, second) = read_documents("kind: List\nitems:\n- a: 1\n- a: 2\n", source="")
    assert (first.value, second.value) == ({"a": 1}, {"a": 2})
    assert (first.line(("a",)), second.line(("a",))) == (3, 4)


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_fine_even_with_tabs(indent):
    body = {"a": {"b": ["c", 1, True, None, "tab\there", "beyond U+FFFF: \U0001f600"]}}
    assert values(json.dumps(body, indent=indent)) == [body]


def test_lines_are_those_of_keys_and_items():
    (document,) = read_documents("# first\na:\n  b:\n    - c: 1\n      d: 2\n    -\n      e: 3\n", source="")
    assert document.line(("a",)) == 2
    assert document.line(("a", "b", 0)) == 4
    assert document.line(("a", "b", 0, "d")) == 5
    assert document.line(("a", "b", 1, "e")) == 7
    assert document.line(("a", "b", 0, "x", "y")) == 4, "the nearest thing around it"
    assert document.line(("x",)) == 2
