"""The documentation says what is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_fields_is_that_of_the_crd():
    script = ROOT / "docs" / "reference" / "make.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False)
    assert done.returncode == 0, "docs/job-file.md is out of date: make docs"
