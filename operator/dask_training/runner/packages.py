"""`spec.packages`: installed by pip into a layer of the run's own, in front of the environment that runs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import site
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from dask_training.errors import PackagesError

# All processes of a run must agree on these, and this package is tested with them: a layer may not change them.
_FIXED = ("cloudpickle", "dask", "distributed", "joblib", "msgpack", "tornado")


def layer_site(layer: Path) -> Path:
    """The folder of the layer's packages, to be put on `PYTHONPATH`."""
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(layer), "platbase": str(layer)}))


def pip_command(packages: Sequence[str], layer: Path) -> list[str]:
    """Prepares the layer; returns the command that installs the packages into it.

    pip sees this environment behind the layer: what is installed there is used if it satisfies the packages, and is
    never changed.
    """
    venv.create(layer, with_pip=False, symlinks=True)
    # addsitedir and not the bare paths, so that editable installs of this environment are seen too.
    own = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in own]
    (layer_site(layer) / "_environment.pth").write_text("".join(lines))
    constraints = layer / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in _fixed()))
    return [
        *(sys.executable, "-m", "pip", "--python", str(layer / "bin" / "python"), "install", "--no-input"),
        *("--disable-pip-version-check", "--progress-bar", "off", "--no-warn-script-location"),
        *("--constraint", str(constraints), "--", *packages),
    ]


def _fixed() -> Iterator[tuple[str, str]]:
    for name in _FIXED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # mode Workers does without Dask
            yield name, importlib.metadata.version(name)


def failure(packages: Sequence[str], exit_code: int, output: Sequence[str]) -> PackagesError:
    """The error to show when `pip_command` ended with `exit_code` after printing the lines `output`."""
    reasons = [line.removeprefix("ERROR:").strip() for line in output if line.startswith("ERROR:")]
    # pip's last errors are its conclusion; where it names none, its last lines must do.
    reason = "\n  ".join(reasons[-3:] or output[-3:] or ["it printed nothing"])
    return PackagesError(
        f"spec.packages: pip could not install {', '.join(packages)} (exit code {exit_code}):\n  {reason}\n"
        "Check the names and versions; logs/packages.log has all that pip said."
    )
