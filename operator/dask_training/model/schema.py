"""The CRD's own schema: what fields there are, their defaults, and what null means."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

import yaml

Schema: TypeAlias = Mapping[str, Any]

_LABEL_VALUE: Final = {"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"}
_PLAIN: Final = {"type": "string"}

# Kubernetes checks metadata itself, so the CRD says nothing of it.
METADATA: Final[Schema] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "Name of the job."},
        "namespace": {
            "type": "string",
            "minLength": 1,
            "maxLength": 63,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "default": "default",
        },
        "uid": _PLAIN,
        "labels": {"type": "object", "additionalProperties": _LABEL_VALUE},
        "annotations": {"type": "object", "additionalProperties": _PLAIN},
        # What the API server adds to an object that was read back from it.
        "generateName": _PLAIN,
        "resourceVersion": _PLAIN,
        "generation": {"type": "integer"},
        "creationTimestamp": _PLAIN,
        "deletionTimestamp": _PLAIN,
        "deletionGracePeriodSeconds": {"type": "integer"},
        "selfLink": _PLAIN,
        "finalizers": {"type": "array", "items": _PLAIN},
        "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "ownerReferences": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    },
}


@cache
def crd() -> Mapping[str, Any]:
    """The CustomResourceDefinition, as it is applied to a cluster."""
    text = files(__package__).joinpath("crd.yaml").read_text(encoding="utf-8")
    # The C loader takes a tenth of the time, and this is part of each start of the command line.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition: Mapping[str, Any] = yaml.load(text, loader)  # noqa: S506 - both are safe loaders
    return definition


@cache
def job_schema() -> Schema:
    """The schema of a whole job: the CRD's, with what Kubernetes itself checks of metadata, without status."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    # A job that was read back from a cluster has one, and it is not the user's.
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    properties = schema["properties"] | {"metadata": METADATA, "status": status}
    return {**schema, "required": ["metadata", "spec"], "properties": properties}


def without_nulls(schema: Schema, value: Any) -> Any:
    """A copy of `value` without the known fields that are null: for the API server they are not there either."""
    if isinstance(value, Mapping):
        return {
            key: without_nulls(of_field, item)
            for key, item in value.items()
            for of_field in (_field(schema, key),)
            if item is not None or not of_field
        }
    if isinstance(value, list):
        return [without_nulls(schema.get("items", {}), item) for item in value]
    return value


def with_defaults(schema: Schema, value: Any) -> Any:
    """A copy of `value` with the schema's defaults filled in, as the API server does it."""
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        missing = {
            key: copy.deepcopy(of["default"]) for key, of in properties.items() if "default" in of and key not in value
        }
        return {key: with_defaults(_field(schema, key), item) for key, item in {**value, **missing}.items()}
    if isinstance(value, list):
        return [with_defaults(schema.get("items", {}), item) for item in value]
    return value


def _field(schema: Schema, key: Any) -> Schema:
    field: Schema = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
    return field


def fields(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Each field below `schema` with its path; a list's items and a map's values are at "[]" and "{}"."""
    below = dict(schema.get("properties", {}))
    if "items" in schema:
        below["[]"] = schema["items"]
    if isinstance(schema.get("additionalProperties"), Mapping):
        below["{}"] = schema["additionalProperties"]
    for key, of_field in below.items():
        yield (*path, key), of_field
        yield from fields(of_field, (*path, key))
