"""The example images of docs/own-image.md go with what dask-training asks for."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dask_training import __version__

IMAGES = Path(__file__).parents[2] / "images"
EXAMPLES = ["conda-example", "own-image-example"]
SAME = {"dask-core": "dask", "matplotlib-base": "matplotlib"}  # conda's name -> pip's


def instructions(example: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they are about."""
    text = (IMAGES / example / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_image_has_what_pods_need(example):
    found = instructions(example)
    said = [about for _, about in found]
    [install] = [about for about in said if "pip install" in about]
    assert '"dask-training[runtime,s3]==$VERSION"' in install
    assert ("ARG", f"VERSION={__version__}") in found
    [compiled] = [about for about in said if "compileall" in about]
    assert said.index(install) < said.index(compiled), "byte code of all that was installed"
    assert found[-1] == ("USER", "1000:1000")
    assert ("WORKDIR", "/work") in found
    assert [name for name, _ in found if name in ("ENTRYPOINT", "CMD")] == [], "which pods do not use"


def conda_specs() -> dict[str, SpecifierSet]:
    """pip's name of what environment.yml names, and the versions: conda's `=3.12` is pip's `==3.12.*`."""
    environment = yaml.safe_load((IMAGES / "conda-example" / "environment.yml").read_text())
    specs = {}
    for text in environment["dependencies"]:
        name, versions = re.fullmatch(r"([a-z0-9-]+)(.*)", text).groups()
        versions = f"={versions}.*" if re.match(r"=\d", versions) else versions
        specs[SAME.get(name, name)] = SpecifierSet(versions)
    return specs


def test_condas_packages_are_those_that_pip_would_ask_for():
    specs = conda_specs()
    asked = {}
    for requirement in map(Requirement, requires("dask-training")):
        if requirement.marker is None or requirement.marker.evaluate({"extra": "runtime"}):
            asked[canonicalize_name(requirement.name)] = requirement.specifier
    shared = specs.keys() & asked.keys()
    assert {"dask", "distributed", "joblib", "scikit-learn", "numpy", "pandas", "pip"} <= shared
    locked = (IMAGES.parent / "locks" / "runtime.txt").read_text()
    for name in shared:
        version = re.search(rf"^{re.escape(name)}==(\S+?)(?: |$)", locked, re.MULTILINE)[1]
        assert version in specs[name], f"{name} {version} is tested, environment.yml says {specs[name]}"
        assert version in asked[name]


def test_condas_python_is_one_that_is_supported():
    [python] = list(conda_specs()["python"])
    assert str(python) in {"==3.11.*", "==3.12.*", "==3.13.*"}
