"""scripts/install.py has uv look for packages where pip is told to, and compile them as pip does."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import distributed
import pytest
import sklearn
from modules import load_module


@pytest.fixture(scope="module")
def install(root):
    return load_module(root / "scripts" / "install.py")


def test_pips_environment_comes_before_install_s_own_settings_and_these_before_all_others(install):
    values = {"install.index-url": "b", "global.index-url": "a", "freeze.timeout": "9"}
    listed = [f"{name}={value!r}" for name, value in values.items()]
    assert install.variables(listed) == {"UV_DEFAULT_INDEX": "b"}
    assert install.variables([":env:.index-url='c'", *listed]) == {"UV_DEFAULT_INDEX": "c"}
    assert install.variables([]) == {}


def test_all_that_uv_has_another_name_for_is_passed_on(install):
    values = {"extra-index-url": "a\nb", "find-links": "/c\n/d", "trusted-host": "e f", "cert": "/g", "proxy": "h"}
    listed = [f"global.{name}={value!r}" for name, value in values.items()]
    assert install.variables(listed) == {
        "UV_INDEX": "a b",
        "UV_FIND_LINKS": "/c,/d",
        "UV_INSECURE_HOST": "e f",
        "SSL_CERT_FILE": "/g",
        "ALL_PROXY": "h",
    }


def test_pip_really_prints_what_is_read(install, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nfind-links =\n    /one\n    /two\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, "-m", "pip", "config", "list"]
    environment = kept | {"PIP_CONFIG_FILE": str(config)}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert install.variables(listed.splitlines())["UV_FIND_LINKS"].split(",") == ["/one", "/two"]


def test_what_can_t_be_had_is_said_with_uvs_exit_code(root, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("dask-training-no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n")
    command = [
        sys.executable,
        root / "scripts" / "install.py",
        "--offline",
        "--dry-run",
        "--require-hashes",
        "-r",
        lock,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "dask-training-no-such-package" in done.stderr


@pytest.mark.parametrize("package", [distributed, sklearn])
def test_what_is_installed_is_compiled(package):
    """Where PYTHONDONTWRITEBYTECODE is set, each process would compile all that it imports: 10 s in place of 2."""
    assert Path(importlib.util.cache_from_source(package.__file__)).exists()
