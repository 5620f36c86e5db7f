"""pyproject.toml, the locks and what is built from them say the same."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = Path(__file__).parents[2] / "locks"
# Lock -> the extras and dependency groups that it has to satisfy beside the package's own dependencies.
CONTENT = {
    "dev": ({"runtime", "operator", "client", "s3"}, {"dev"}),
    "runtime": ({"runtime", "s3"}, set()),
    "runtime-ml": ({"runtime", "s3", "ml"}, set()),
    "operator": ({"operator"}, set()),
    "client": ({"client"}, set()),
}
# What it takes to install what the others hold, by groups of these names.
TOOLS = ["build", "install"]
PYTHONS = ["3.11", "3.12", "3.13"]
NO_DASK = {"dask", "distributed", "scikit-learn", "joblib", "numpy", "pandas", "bokeh"}
NO_SKLEARN = {"scikit-learn", "pandas", "bokeh", "kopf"}


def locked(name: str) -> list[Requirement]:
    """The pinned versions of a lock; one name may have several, for different Pythons."""
    text = (LOCKS / f"{name}.txt").read_text().replace("\\\n", "")
    return [Requirement(line.split(" --hash=")[0]) for line in text.splitlines() if line.strip()]


def pins(name: str, python: str) -> dict[str, str]:
    """Name -> version of what a lock installs on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found = [
        (canonicalize_name(each.name), str(each.specifier).removeprefix("=="))
        for each in locked(name)
        if each.marker is None or each.marker.evaluate(environment)
    ]
    assert len(dict(found)) == len(found), "a version for each"
    return dict(found)


def group(pyproject: dict, name: str) -> list[Requirement]:
    found = []
    for each in pyproject["dependency-groups"][name]:
        found += group(pyproject, each["include-group"]) if isinstance(each, dict) else [Requirement(each)]
    return found


def closure(extra: str) -> set[str]:
    """What `pip install dask-training[extra]` brings, from the metadata of what is installed here."""
    seen: set[tuple[str, str]] = set()
    todo = [("dask-training", ""), ("dask-training", extra)]
    while todo:
        name, wanted = key = todo.pop()
        if key in seen:
            continue
        seen.add(key)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or Marker(str(requirement.marker)).evaluate({"extra": wanted}):
                needed = canonicalize_name(requirement.name)
                todo += [(needed, "")] + [(needed, each) for each in requirement.extras]
    return {name for name, _ in seen} - {"dask-training"}


# The locks.


@pytest.mark.parametrize("name", [*CONTENT, *TOOLS])
def test_every_locked_version_is_exact_and_hashed(name):
    entries = re.split(r"\n(?=\S)", (LOCKS / f"{name}.txt").read_text().strip())
    assert len(entries) > (0 if name == "install" else 5)
    loose = [
        entry
        for entry in entries
        if not re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+( ; .+)? \\\n    --hash=sha256:", entry)
    ]
    assert loose == []


def test_no_lock_is_forgotten():
    assert {path.stem for path in LOCKS.iterdir()} == {*CONTENT, *TOOLS}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", CONTENT)
def test_every_requirement_is_locked_within_its_bounds(pyproject, name, python):
    extras, groups = CONTENT[name]
    project = pyproject["project"]
    needed = [Requirement(each) for each in project["dependencies"]]
    needed += [Requirement(each) for extra in extras for each in project["optional-dependencies"][extra]]
    needed += [each for name in groups for each in group(pyproject, name)]
    have = pins(name, python)
    missing = [str(each) for each in needed if not each.specifier.contains(have.get(canonicalize_name(each.name), "0"))]
    assert missing == [], "make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_build_lock_holds_what_an_installation_of_this_folder_takes(pyproject, python):
    have = pins("build", python)
    needed = group(pyproject, "build") + [Requirement(each) for each in pyproject["build-system"]["requires"]]
    assert [str(each) for each in needed if not each.specifier.contains(have.get(each.name, "0"))] == []


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", [*TOOLS, "runtime", "operator", "client"])
def test_locks_agree_on_every_version(name, python):
    """Tests run with dev.txt; what is delivered has to be what was tested."""
    tested = pins("dev", python)
    assert {key: version for key, version in pins(name, python).items() if tested.get(key) != version} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_larger_runtime_adds_to_the_tested_one_and_changes_nothing(python):
    assert pins("runtime", python).items() <= pins("runtime-ml", python).items()


def test_here_is_installed_what_is_locked():
    installed = {canonicalize_name(each.name): each.version for each in distributions()}
    have = pins("dev", f"{sys.version_info.major}.{sys.version_info.minor}")
    other = {name: (installed.get(name), version) for name, version in have.items() if installed.get(name) != version}
    assert other == {}, "installed, locked: make setup"


# Who installs what.


@pytest.mark.parametrize(("extra", "banned"), [("operator", NO_DASK), ("client", NO_SKLEARN)])
def test_an_extra_brings_nothing_heavy(extra, banned):
    needed = closure(extra)
    assert {"click", "fsspec", "kubernetes", "msgspec"} <= needed
    assert needed & banned == set()


@pytest.mark.parametrize(("lock", "banned"), [("operator", NO_DASK), ("client", NO_SKLEARN)])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_extras_lock_brings_nothing_heavy_either(lock, banned, python):
    assert set(pins(lock, python)) & banned == set()


@pytest.mark.parametrize("extra", ["operator", "client", "runtime"])
def test_a_lock_is_complete(extra):
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert closure(extra) - set(pins(extra, python)) == set()


# The reasons.


def test_every_bound_has_its_reason_beside_it(root):
    """A bound without a reason is never lifted."""
    text = (root / "pyproject.toml").read_text().partition("[tool.")[0]
    bounds = [line.strip() for line in text.splitlines() if re.search(r'"[A-Za-z0-9_.\[\]-]+ *[<>=~!]=?', line)]
    assert len(bounds) > 20
    assert [line for line in bounds if not re.search(r"#\s*\S+", line)] == []


# What is built.


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_and_nothing_else(wheel, root):
    source = root / "operator"
    modules = {str(path.relative_to(source)) for path in (source / "dask_training").rglob("*.py")}
    names = set(wheel.namelist())
    assert modules <= names
    assert "dask_training/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dask_training"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_holds_the_job_schema_itself(wheel, root):
    """In the source tree it is a link to the chart's; an installed package has no chart beside it."""
    chart = root / "charts" / "dask-training-operator" / "files" / "crd.yaml"
    assert wheel.read("dask_training/model/crd.yaml") == chart.read_bytes()


def test_the_wheel_brings_the_command_and_the_licence(wheel):
    info = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert b"dask-training = dask_training.cli:main" in wheel.read(info["entry_points.txt"])
    assert b"License-Expression: Apache-2.0" in wheel.read(info["METADATA"])
    assert b"Apache License" in wheel.read(info["licenses/LICENSE"])
