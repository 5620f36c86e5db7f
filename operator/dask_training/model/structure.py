"""Checks a job against the CRD's schema: types, bounds, unknown and missing fields; all problems at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import jsonschema
from jsonschema.exceptions import ValidationError

from dask_training.model.problems import Path
from dask_training.model.schema import Schema, fields, job_schema

# A ValidationError; its own types say "perhaps unset" of attributes that are always set here.
Error: TypeAlias = Any
_QUANTITY: Final = "must be a quantity such as 500m, 2 or 4Gi"
# Each pattern of the schema in words.
PATTERNS: Final = {
    r"^\S*$": "must not hold spaces",
    r"^[^\x00-\x1f]*$": "must be on one line, without control characters",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$": (
        "must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit"
    ),
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$": (
        "must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit"
    ),
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": (
        "must be lower-case letters, digits and '-', and begin and end with a letter or digit"
    ),
    r"^[-._a-zA-Z][-._a-zA-Z0-9]*$": "must be letters, digits, '_', '-' and '.', and not begin with a digit",
    r"^([-._a-zA-Z][-._a-zA-Z0-9]*)?$": "must be letters, digits, '_', '-' and '.', and not begin with a digit",
    r"^[-._a-zA-Z0-9]+$": "must be letters, digits, '_', '-' and '.'",
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$": _QUANTITY,
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$": "must be the name of a module such as package.module",
    r"^/[^:]*$": "must be an absolute path without ':'",
    r"^-----BEGIN CERTIFICATE REQUEST-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE REQUEST-----\n?$": (
        "must be a certificate signing request in PEM"
    ),
    r"^(s3|gs|gcs|abfs|abfss|az)://[^/\s]+(/\S*)?$|^file:///\S*$": (
        "must be a URL such as s3://bucket/prefix, gs://bucket, abfs://container or file:///path"
    ),
    r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$": (
        "must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
    ),
}
_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def check_structure(body: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Where `body` is not as a job's schema wants it, and why."""
    return [found for error in _validator().iter_errors(body) for found in _MESSAGES[str(error.validator)](error)]


@cache
def _validator() -> Any:
    make: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator,
        {"x-kubernetes-list-map-keys": _unique_keys},
        type_checker=jsonschema.Draft4Validator.TYPE_CHECKER,  # for it, 2.0 is not a whole number
    )
    return make(_translated(job_schema()))


def _translated(schema: Schema) -> dict[str, Any]:
    """The structural schema as JSON Schema: closed objects, int-or-string, Go's meaning of `$`."""
    made = {
        key: value
        for key, value in schema.items()
        if key not in ("description", "default", "x-kubernetes-validations", "format")
    }
    first_sentence = schema.get("description", "").partition(". ")[0].removesuffix(".")
    made["x-said"] = first_sentence[:1].lower() + first_sentence[1:]  # for the messages
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "pattern" in schema:
        made["pattern"] = schema["pattern"].replace("$", r"\Z")
    if schema.get("x-kubernetes-list-type") == "set":
        made["uniqueItems"] = True
    if schema.get("type") == "object":
        if "additionalProperties" in schema:
            made["additionalProperties"] = _translated(schema["additionalProperties"])
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if "properties" in schema:
        made["properties"] = {key: _translated(of_field) for key, of_field in schema["properties"].items()}
    if "items" in schema:
        made["items"] = _translated(schema["items"])
    return made


def _unique_keys(_validator: Any, keys: Sequence[str], items: Any, _schema: Schema) -> Iterator[ValidationError]:
    if not isinstance(items, list):
        return
    seen: dict[tuple[str, ...], int] = {}
    for index, item in enumerate(items):
        if not isinstance(item, Mapping) or not all(isinstance(item.get(key), str) for key in keys):
            continue
        value = tuple(item[key] for key in keys)
        if value in seen:
            said = ", ".join(f"{key} {text!r}" for key, text in zip(keys, value, strict=True))
            yield ValidationError(f"has the {said} of item [{seen[value]}]", path=[index])
        seen.setdefault(value, index)


def shown(value: object) -> str:
    """A value from a job file as a message shows it: short, and with its type where that is what is wrong."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "...")
        case list():
            return "a list"
    return "a mapping"


def nearest(name: object, known: Sequence[str]) -> str | None:
    """The known name that `name` most likely stands for, without regard to case, '-' and '_'; None if none is near."""
    plain = {word.lower(): word for word in reversed(known)}
    found = difflib.get_close_matches(str(name).lower().replace("-", "").replace("_", ""), list(plain), n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _path(error: Error) -> Path:
    return tuple(error.absolute_path)


def _at(say: Callable[[Error], str]) -> Callable[[Error], Iterator[tuple[Path, str]]]:
    def problems(error: Error) -> Iterator[tuple[Path, str]]:
        yield _path(error), say(error)

    return problems


def _wrong_type(error: Error) -> str:
    value, wanted = error.instance, error.validator_value
    if isinstance(wanted, list):
        hint = f': write it in quotes: "{value}"' if isinstance(value, float) and math.isfinite(value) else ""
        return f"{_QUANTITY}, got {shown(value)}{hint}"
    if wanted == "string" and isinstance(value, bool | int | float):
        return f"must be text, got {_kind(value)} {shown(value)}: put it in quotes"
    kind = "the text " if isinstance(value, str) else ""
    return f"must be {_TYPES[str(wanted)]}, got {kind}{shown(value)}"


def _kind(value: object) -> str:
    return "the word" if isinstance(value, bool) else "the number"


def _missing(error: Error) -> Iterator[tuple[Path, str]]:
    """One problem for each required field that is not there (jsonschema raises one error per field, too)."""
    for key in error.validator_value:
        if key not in error.instance and f"'{key}'" in error.message:
            field = error.schema["properties"][key]
            said = f"one of {', '.join(field['enum'])}" if "enum" in field else field.get("x-said", "")
            yield (*_path(error), key), f"is required: {said}" if said else "is required"


def _unknown(error: Error) -> Iterator[tuple[Path, str]]:
    known = list(error.schema.get("properties", {}))
    for key in error.instance:
        if key in known:
            continue
        message = f"unknown field {key!r}"
        elsewhere = _places(key)
        if near := nearest(key, known):
            message += f"; did you mean {near!r}?"
        elif elsewhere:
            message += f"; it belongs in {' or '.join(elsewhere)}"
        else:
            message += f"; known here: {', '.join(sorted(known))}"
        yield (*_path(error), key), message


@cache
def _places(name: str) -> tuple[str, ...]:
    """Where in a job's spec a field of this name belongs, if it is in no list and in three places at most."""
    found = [
        path
        for path, _ in fields(job_schema()["properties"]["spec"], ("spec",))
        if path[-1] == name and not {"[]", "{}"} & {*path}
    ]
    shallow = [path for path in found if len(path) <= 3]
    return tuple(".".join(path[:-1]) for path in shallow) if len(shallow) <= 3 else ()


def _twice(error: Error) -> Iterator[tuple[Path, str]]:
    for index, item in enumerate(error.instance):
        if item in error.instance[:index]:
            yield (*_path(error), index), "is there twice"


def _not_listed(error: Error) -> Iterator[tuple[Path, str]]:
    if not isinstance(error.instance, str):
        return  # said as a wrong type already
    allowed = [value or '""' for value in error.validator_value]
    near = nearest(error.instance, allowed) if len(allowed) > 1 else None
    hint = f"; did you mean {near}?" if near else ""
    yield (
        _path(error),
        f"must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}, got {shown(error.instance)}{hint}",
    )


def _no_match(error: Error) -> str:
    words = PATTERNS[str(error.validator_value).replace(r"\Z", "$")]
    value = str(error.instance)
    hint = ""
    if words == _QUANTITY and value[-1:] in "bB":
        hint = f": write {value.rstrip('bB').strip()!r} or {value.rstrip('iIbB').strip() + 'i'!r}"
    return f"{words}, got {shown(value)}{hint}"


_MESSAGES: Final[dict[str, Callable[[Error], Iterator[tuple[Path, str]]]]] = {
    "type": _at(_wrong_type),
    "required": _missing,
    "additionalProperties": _unknown,
    "enum": _not_listed,
    "pattern": _at(_no_match),
    "minimum": _at(lambda error: f"must be at least {error.validator_value}, got {error.instance}"),
    "maximum": _at(lambda error: f"must be at most {error.validator_value}, got {error.instance}"),
    "minLength": _at(
        lambda error: (
            "must not be empty"
            if error.validator_value == 1
            else f"must have at least {error.validator_value} characters, got {shown(error.instance)}"
        )
    ),
    "maxLength": _at(lambda error: f"must have at most {error.validator_value} characters, got {len(error.instance)}"),
    "minItems": _at(lambda error: f"must have at least {error.validator_value} item, got an empty list"),
    "maxItems": _at(lambda error: f"must have at most {error.validator_value} items, got {len(error.instance)}"),
    "maxProperties": _at(lambda error: f"must have at most {error.validator_value} entries, got {len(error.instance)}"),
    "uniqueItems": _twice,
    "x-kubernetes-list-map-keys": _at(lambda error: error.message),
}
