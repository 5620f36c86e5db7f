"""Whether runner, scheduler and workers have the same versions of what their messages and pickles are made with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dask_training.api import Reason
from dask_training.runner.verdict import Outcome

OURS: Final = "dask-training"
SCHEDULER: Final = "the scheduler"
# Without the same of these even plain tasks may fail: they speak to each other in their own messages, and byte code.
_VITAL: Final = frozenset({"python", "dask", "distributed", OURS})
# Of the scheduler what takes part in messages and graphs, of the workers what tasks and results are made of, too.
_OF_SCHEDULER: Final = ("python", "dask", "distributed", "cloudpickle", "msgpack", "tornado", "toolz", "lz4", OURS)
COMPARED: Final = (*_OF_SCHEDULER, "joblib", "numpy", "pandas", "scikit-learn")
# The two ends of a connection agree on a compression that both have; without ours joblib's own backend is used.
_MAY_LACK: Final = frozenset({"lz4", OURS})
_NAMES_SHOWN: Final = 3
_PACKAGES_SHOWN: Final = 8

_NOT_BY_CHANCE: Final = frozenset({Reason.RUNNER_FAILED, Reason.WORKERS_UNAVAILABLE, Reason.SCHEDULER_FAILED})

Packages = Mapping[str, str | None]


def compared_with(requirements: Iterable[str]) -> tuple[str, ...]:
    """What to compare: what matters to every job, and the packages that spec.packages names itself."""
    named = []
    for text in requirements:
        try:
            named.append(canonicalize_name(Requirement(text).name))
        except InvalidRequirement:  # a path or an address, whose name is known to pip alone
            continue
    return tuple(dict.fromkeys((*COMPARED, *named)))


def own_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions that this process has; without what it lacks."""
    from distributed.versions import get_package_info  # noqa: PLC0415 - distributed reads its configuration first

    return _short(get_package_info(name for name in packages if name != "python"))


def packages_of(reply: Mapping[str, Any]) -> Packages:
    """The versions in what a scheduler or worker answered to the question for them."""
    found: Packages = reply.get("packages") or {}
    return found


class Comparison:
    """What differs from `own`, the runner's versions; what once was seen stays: results may have come from there.

    `cluster` is what it is called ("the cluster"), `fix` a sentence that says what to do.
    """

    def __init__(self, own: Mapping[str, str], *, cluster: str, fix: str) -> None:
        # Python is told unasked; asked for as a package, it is told to be missing.
        self.packages = tuple(name for name in own if name != "python")
        self._own = own
        self._cluster = cluster
        self._fix = fix
        self._differing: dict[tuple[str, str], dict[str, None]] = {}
        self.workers = 0  # that were compared

    def add_scheduler(self, found: Packages) -> bool:
        """Takes the scheduler's versions; whether one differs that was not known to."""
        wanted = [name for name in self._own if name in _OF_SCHEDULER]
        return self._add(SCHEDULER, found, wanted)

    def add_worker(self, name: str, found: Packages) -> bool:
        """The same for a worker, which is called so in messages."""
        return self._add(name, found, self._own)

    def differs(self, found: Packages) -> bool:
        """Whether a worker with these versions differs."""
        return bool(self._differences(found, self._own))

    def _differences(self, found: Packages, wanted: Iterable[str]) -> list[tuple[str, str]]:
        there = _short(found)
        versions = [(package, there.get(package, "")) for package in wanted]
        return [
            (package, version)
            for package, version in versions
            if version != self._own[package] and (version or package not in _MAY_LACK)
        ]

    def _add(self, who: str, found: Packages, wanted: Iterable[str]) -> bool:
        differing = self._differences(found, wanted)
        news = any(each not in self._differing for each in differing)
        for each in differing:
            self._differing.setdefault(each, {})[who] = None
        return news

    @property
    def is_vital(self) -> bool:
        """Whether something differs that may break the job, and not only its results."""
        return any(package in _VITAL for package, _ in self._differing)

    @property
    def summary(self) -> str:
        """One line: what differs, who has what, and what to do; "" where nothing does."""
        if not self._differing:
            return ""
        ordered = sorted(self._differing.items(), key=lambda each: each[0][0] not in _VITAL)
        parts = [self._part(package, version, tuple(who)) for (package, version), who in ordered[:_PACKAGES_SHOWN]]
        more = [f"{len(ordered) - _PACKAGES_SHOWN} more"] if ordered[_PACKAGES_SHOWN:] else []
        risk = "Tasks may fail or hang." if self.is_vital else "Results may differ, or not be readable."
        return f"versions differ between runner and {self._cluster}: {'; '.join([*parts, *more])}. {risk} {self._fix}"

    def _part(self, package: str, version: str, who: tuple[str, ...]) -> str:
        who = tuple(sorted(who, key=lambda name: name != SCHEDULER))
        shown = ", ".join(who[:_NAMES_SHOWN])
        if who[_NAMES_SHOWN:]:
            shown += f" and {len(who) - _NAMES_SHOWN} more"
        return f"{package} is {self._own[package]} in the runner, {version or 'missing'} in {shown}"


def explained(outcome: Outcome, comparison: Comparison | None) -> Outcome:
    """The outcome; of a failure that versions may well be the cause of, the message says so."""
    if comparison is None or not comparison.is_vital or outcome.reason not in _NOT_BY_CHANCE:
        return outcome
    return dataclasses.replace(outcome, message=f"{outcome.message}\nThe cause may be that {comparison.summary}")


def _short(packages: Packages) -> dict[str, str]:
    """Of Python only 3.11: what is pickled is the same for all 3.11.x."""
    known = {name: str(version) for name, version in packages.items() if version}
    if "python" in known:
        known["python"] = ".".join(known["python"].split(".")[:2])
    return known
