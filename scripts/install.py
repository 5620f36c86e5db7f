"""`python scripts/install.py ARGUMENTS`: as `pip install ARGUMENTS`, into this Python's environment, but by uv.

It takes a tenth of pip's time. uv itself comes by pip, from its lock; where pip is told to look for packages, uv looks.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LOCK = Path(__file__).parents[1] / "locks" / "install.txt"
UV = Path(sys.executable).with_name("uv")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
# pip's options that uv, which does not read pip's files, has by other names.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def variables(listed: Iterable[str]) -> dict[str, str]:
    """What `pip config list` prints, as uv's environment variables.

    >>> variables(["global.index-url='https://example.org/simple'", ":env:.find-links='/a /b'"])
    {'UV_DEFAULT_INDEX': 'https://example.org/simple', 'UV_FIND_LINKS': '/a,/b'}
    """
    found = {}
    # pip goes by its environment before any of its files, and by `install`'s own settings before those of all commands.
    for line in sorted(listed, key=lambda line: (line.startswith(":env:"), line.startswith("install."))):
        name, _, value = line.partition("=")
        variable = VARIABLES.get(name.rpartition(".")[2])
        if variable:
            text = str(ast.literal_eval(value))
            found[variable] = ",".join(text.split()) if variable == "UV_FIND_LINKS" else " ".join(text.split())
    return found


def main() -> int:
    """Installs; the exit code is that of pip or uv."""
    if not UV.exists():
        code = subprocess.call([*PIP, "--no-input", "install", "--quiet", "--require-hashes", "-r", str(LOCK)])
        if code:
            return code
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    environment = variables(listed.splitlines()) | os.environ
    # As pip does: who sets PYTHONDONTWRITEBYTECODE would compile everything in each process that imports it.
    command = [str(UV), "pip", "install", "--python", sys.executable, "--compile-bytecode", *sys.argv[1:]]
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
