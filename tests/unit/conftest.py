from __future__ import annotations

import tomllib

import pytest


@pytest.fixture(scope="session")
def pyproject(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())
