"""Which versions are here, for deciding what needs repair."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

# A newer dask-ml is left alone: nobody has looked yet at what it needs.
LAST_KNOWN = Version("2025.1.0")


def needs_repair(**since: str) -> bool:
    """Whether dask-ml is one we know, with each named package at this version or newer: `needs_repair(dask="2025.3")`.

    Underscores stand for hyphens (`scikit_learn="1.6"`).
    """
    return Version(version("dask-ml")) <= LAST_KNOWN and all(
        Version(version(name.replace("_", "-"))) >= Version(first) for name, first in since.items()
    )
