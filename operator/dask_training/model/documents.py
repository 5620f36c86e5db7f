"""Reads YAML as Kubernetes does, with the line of each value; errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml

from dask_training.model.problems import JobFileError, Path, Problem, path_text

_MAX_BYTES: Final = 4 * 1024 * 1024  # etcd takes 1.5 MiB per object
_MAX_NODES: Final = 200_000  # aliases of aliases make a small file huge


class Document(msgspec.Struct, frozen=True):
    """One YAML document: its value, the line of each path in it, and where the text of a block scalar starts."""

    value: Any
    lines: Mapping[Path, int]
    text_lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


class _Loader(yaml.SafeLoader):
    """YAML's scalars as the API server reads them: no dates, no base-60 numbers; 1e3 is a number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's way: a class attribute of this very name


for _tag, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read_documents(text: str, *, source: str) -> list[Document]:
    """All documents that are not empty, the items of a List one by one; raises JobFileError for what is not YAML."""
    if len(text) > _MAX_BYTES:
        raise JobFileError(
            [Problem("", f"is too large: {len(text):,} characters, at most {_MAX_BYTES:,}", None, source)]
        )
    if text.lstrip()[:1] == "{":  # JSON may be indented with tabs, and YAML may not
        text = re.sub(r"^\t+", lambda tabs: " " * len(tabs[0]), text, flags=re.MULTILINE)
    try:
        loader = _Loader(text)
        return [document for node in _nodes(loader) for document in _Reader(loader, source).documents(node)]
    except yaml.MarkedYAMLError as error:
        raise JobFileError([_yaml_problem(error, text, source)]) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = f"invalid YAML: the character U+{error.character:04X} is not allowed"
        raise JobFileError([Problem("", message, line, source)]) from error
    except RecursionError as error:
        raise JobFileError([Problem("", "is nested too deeply", None, source)]) from error


def _nodes(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        if (node := loader.get_node()) is not None:
            yield node


class _Reader:
    """Turns one document's nodes into values and lines, and finds keys that are given twice."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self._loader = loader
        self._source = source
        self._left = _MAX_NODES
        self._problems: list[Problem] = []

    def documents(self, root: yaml.Node) -> Iterator[Document]:
        for node in _items_of_list(root):
            lines: dict[Path, int] = {(): node.start_mark.line + 1}
            text_lines: dict[Path, int] = {}
            value = self._value(node, (), lines, text_lines)
            if value is not None:
                yield Document(value, lines, text_lines)
        if self._problems:
            raise JobFileError(self._problems)

    def _value(self, node: yaml.Node, path: Path, lines: dict[Path, int], text_lines: dict[Path, int]) -> Any:
        self._left -= 1
        if self._left < 0:
            raise JobFileError(
                [Problem("", f"has too many values, with its aliases: at most {_MAX_NODES:,}", None, self._source)]
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, lines, text_lines)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[*path, index] = item.start_mark.line + 1
            return [self._value(item, (*path, index), lines, text_lines) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.style == "|":
            text_lines[path] = node.start_mark.line + 2
        if node.tag.rpartition(":")[2] not in ("str", "null", "bool", "int", "float"):
            raise yaml.MarkedYAMLError(None, None, "tags such as !name are not known here", node.start_mark)
        try:
            value = self._loader.construct_object(node)
            return _joined(value, node) if isinstance(value, str) else value
        except ValueError as error:  # such as !!int two
            raise yaml.MarkedYAMLError(None, None, f"{node.value!r} does not fit its tag", node.start_mark) from error

    def _mapping(
        self, node: yaml.MappingNode, path: Path, lines: dict[Path, int], text_lines: dict[Path, int]
    ) -> dict[str, Any]:
        value: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key must be text", key_node.start_mark)
            key = _joined(key_node.value, key_node)
            if key in value:
                text = f"is given twice, here and on line {first_lines[key]}"
                self._problems.append(Problem(path_text((*path, key)), text, line, self._source))
            first_lines.setdefault(key, line)
            lines[*path, key] = line
            value[key] = self._value(value_node, (*path, key), lines, text_lines)
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                raise yaml.MarkedYAMLError(None, None, "'<<' needs a mapping", other.start_mark)
            value = {**self._mapping(other, path, lines, text_lines), **value}
        return value


def _joined(text: str, node: yaml.Node) -> str:
    """The text with surrogate pairs made one: JSON writes a character beyond U+FFFF as two escapes."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise yaml.MarkedYAMLError(None, None, "half a surrogate pair", node.start_mark) from error


def _items_of_list(root: yaml.Node) -> list[yaml.Node]:
    """The objects in what `kubectl get -o yaml` writes for several; the node itself for anything else."""
    if isinstance(root, yaml.MappingNode):
        found = {key.value: value for key, value in root.value if isinstance(key, yaml.ScalarNode)}
        if "kind" in found and found["kind"].value == "List" and isinstance(found.get("items"), yaml.SequenceNode):
            return list(found["items"].value)
    return [root]


def _yaml_problem(error: yaml.MarkedYAMLError, text: str, source: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem("", f"invalid YAML: {error.problem}", None, source)
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    said = _explained(str(error.problem), line)
    context = error.context_mark
    if context is not None and context.line != mark.line:
        said += f" (in what begins on line {context.line + 1})"
    return Problem("", f"invalid YAML at column {mark.column + 1}: {said}", mark.line + 1, source)


_EXPLANATIONS: Final = (
    (
        r"mapping values are not allowed here",
        "a second ': ' in one line, or wrong indentation; put a text with ': ' in quotes",
    ),
    (
        r"expected <block end>, but found '(-|<block mapping start>|\?)'",
        "this line's indentation fits none of the lines above",
    ),
    (
        r"expected <block end>, but found '<scalar>'",
        "text after a closing quote, or an indentation that fits none of the lines above",
    ),
    (r"could not find expected ':'", "this line, or the one before, should be 'key: value'"),
    (r"found unexpected end of stream", "a quote is opened, but not closed"),
    (r"expected ',' or ']'", "a '[' is not closed, or a ',' is missing"),
    (r"expected ',' or '}'", "a '{' is not closed, or a ',' is missing"),
    (r"found undefined alias", "an alias (*name) without its anchor (&name)"),
)


def _explained(problem: str, line: str) -> str:
    """PyYAML's words in plain ones, where they are known."""
    if re.match(r" *\t", line) or r"'\t'" in problem:
        return "a tab; indent with spaces"
    if re.search(r": *[@`%]", line) and "cannot start any token" in problem:
        return "a text that starts with @, ` or % must be in quotes"
    return next((said for pattern, said in _EXPLANATIONS if re.search(pattern, problem)), problem)
