"""The credentials of an artifact store: a Secret's, completed from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_CREDENTIALS = (*_KEY, "AWS_ENDPOINT_URL", "AWS_REGION")


def credentials_of(secret: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The Secret's; from `environment` what the Secret does not have, but never a part of a key."""
    found = {name: environment[name] for name in _CREDENTIALS if name in environment}
    if any(name in secret for name in _KEY):
        found = {name: value for name, value in found.items() if name not in _KEY}
    return found | {name: secret[name] for name in _CREDENTIALS if name in secret}


def mounted_secret(folder: Path) -> dict[str, str]:
    """The keys of a Secret that is mounted at `folder`; {} if none is."""
    found = {}
    for name in _CREDENTIALS:
        try:
            found[name] = (folder / name).read_text().strip()
        except FileNotFoundError:
            continue
    return found
