"""Reading a mapping field by field, so that what was not read can be told: nothing is lost in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Node:
    """A mapping at `path` of a document; what is taken from it is no leftover."""

    def __init__(self, value: Any, path: str = "") -> None:
        self.path = path
        self._left: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {}
        self._below: list[Node] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a field, which is read now."""
        return self._left.pop(key, default)

    def node(self, key: str) -> Node:
        """The mapping below a field; an empty one where there is none."""
        found = Node(self.take(key), self._path_of(key))
        self._below.append(found)
        return found

    def nodes(self, key: str) -> list[Node]:
        """The mappings of a list."""
        items = self.take(key) or ()
        found = [Node(item, f"{self._path_of(key)}[{number}]") for number, item in enumerate(items)]
        self._below += found
        return found

    def whole(self) -> dict[str, Any]:
        """All that is left of it, which is read now."""
        found, self._left = self._left, {}
        return found

    def leftovers(self) -> Iterator[str]:
        """The paths of what has not been read; of mappings and lists each leaf."""
        for key, value in self._left.items():
            yield from _leaves(value, self._path_of(key))
        for below in self._below:
            yield from below.leftovers()

    def _path_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif value not in (None, {}, []):
        yield path
