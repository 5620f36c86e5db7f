"""Where a run's files lie in a store. Each run has a folder of its own, and no name can reach out of it."""

from __future__ import annotations

import re

from dask_training.errors import UnsafeNameError

# Each component is checked against its own rule, none of which allows "/" or a leading ".", and the number of
# components is fixed: so two different runs never have the same prefix, and none lies inside another's.
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(_LABEL)
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,62}")
_RUN = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,62}")


def key_prefix(namespace: str, name: str, uid: str, attempt: int) -> str:
    """Where an attempt of a job in a cluster keeps its files: `<namespace>/<name>/<uid>/<attempt>`.

    Raises UnsafeNameError for a part that Kubernetes wouldn't have given; `attempt` counts from 1.
    """
    if type(attempt) is not int or attempt < 1:  # True is an int, too
        raise UnsafeNameError(f"the attempt must be a whole number from 1, got {attempt!r}")
    parts = (
        _checked("namespace", namespace, _NAMESPACE),
        _checked("name", name, _NAME),
        _checked("uid", uid, _UID),
        str(attempt),
    )
    return "/".join(parts)


def local_key_prefix(name: str, run: str) -> str:
    """Where a run on this machine keeps its files: `<name>/<run>`. Raises UnsafeNameError unless both are plain."""
    return f"{_checked('name', name, _NAME)}/{_checked('run', run, _RUN)}"


def _checked(what: str, value: str, rule: re.Pattern[str]) -> str:
    if not rule.fullmatch(value):
        raise UnsafeNameError(f"the {what} must match {rule.pattern} to be part of a store's key, got {value!r}")
    return value
