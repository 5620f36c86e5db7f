"""Which names a store may be given: relative POSIX paths that mean the same file everywhere and nothing elsewhere."""

from __future__ import annotations

import unicodedata

from dask_training.errors import UnsafeNameError

MANIFEST = "manifest.json"
MAX_COMPONENT_BYTES = 255  # NAME_MAX of the usual file systems
MAX_KEY_BYTES = 1024  # the longest key of S3; held in each store, so that artifacts can move between stores

# Invisible characters that end a line, or turn the order of those shown: they make listings lie.
_FORBIDDEN_CATEGORIES = {"Cc": "a control character", "Zl": "a line separator", "Zp": "a paragraph separator"}
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_name(name: str) -> str:
    """Return `name` if it may be stored, a relative POSIX path such as `model/model.joblib`.

    Raises UnsafeNameError, naming the file and the rule, for: an empty name, an absolute path, `.`, `..` or an empty
    component, a backslash, control characters, text that isn't UTF-8, a component over 255 bytes, over 1,024 in all.
    """
    problem = problem_with(name)
    if problem is not None:
        raise UnsafeNameError(f"can't keep a file named {shown(name)}: {problem}; rename it")
    return name


def problem_with(name: str) -> str | None:
    """What `check_name` would object to, or None."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if not name:
        return "the name is empty"
    if len(encoded) > MAX_KEY_BYTES:
        return f"the path has {len(encoded)} bytes, at most {MAX_KEY_BYTES} are allowed"
    if name.startswith("/"):
        return "the path is absolute"
    for component in name.split("/"):
        problem = _problem_with_component(component)
        if problem is not None:
            return problem
    return None


def _problem_with_component(component: str) -> str | None:
    if component in {"", ".", ".."}:
        return f"the path has {component!r} as a component" if component else "the path has an empty component"
    size = len(component.encode())
    if size > MAX_COMPONENT_BYTES:
        return f"the name has {size} bytes, at most {MAX_COMPONENT_BYTES} are allowed"
    for character in component:
        kind = _FORBIDDEN_CATEGORIES.get(unicodedata.category(character))
        if kind is not None:
            return f"the name has {kind} (U+{ord(character):04X})"
        if character in _BIDI_CONTROLS:
            return f"the name has a character that changes the direction of text (U+{ord(character):04X})"
        if character == "\\":
            return "the name has a backslash, which separates folders on other systems"
    return None


def join(prefix: str, name: str) -> str:
    """The key of `name` under `prefix`, both checked; `prefix` may be empty."""
    check_name(name)
    return check_name(f"{prefix}/{name}") if prefix else name


def shown(name: str) -> str:
    """`name` for people: quoted, with what a terminal must not get escaped, shortened in the middle."""
    text = ascii(name) if problem_with(name) else repr(name)
    return text if len(text) <= 120 else f"{text[:80]}...{text[-30:]}"
