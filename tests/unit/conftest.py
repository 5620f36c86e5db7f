from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What git does not track, for a tree that came without git.
NOT_OURS = {".git", ".venv", "__pycache__", "artifacts", "results", "dist", "build"}


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """The files that are the project's, tracked or about to be: no caches, environments or results."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        package = ROOT / "operator"
        files = [
            path
            for path in ROOT.rglob("*")
            if path.is_relative_to(package)
            or not any(part in NOT_OURS or part.endswith("_cache") for part in path.relative_to(ROOT).parts)
        ]
    return sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)
