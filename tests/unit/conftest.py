from __future__ import annotations

import tomllib

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business, which may have other work.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def pyproject(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())
