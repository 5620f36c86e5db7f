"""What a runner says of a cluster that is not its own, and what it sends there by value."""

import json
import subprocess
import sys

import pytest

from dask_training.runner import guest

OURS = {
    "python": "3.11.9.final.0",
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "cloudpickle": "3.1.2",
    "msgpack": "1.1.0",
    "tornado": "6.5",
    "joblib": "1.6.0",
    "numpy": "2.3.0",
    "pandas": None,
    "scikit-learn": "1.9.1",
    "dask-training": "0.1.0",
}


def versions(scheduler=None, *workers):
    """As `Client.get_versions` gives them: what differs of the scheduler and of each worker."""
    changed = [{"packages": OURS | each} for each in (scheduler or {}, *(workers or ({}, {})))]
    return {
        "client": {"packages": OURS},
        "scheduler": changed[0],
        "workers": {f"tcp://w:{number}": each for number, each in enumerate(changed[1:])},
    }


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        (versions(), False),
        (versions({"dask-training": None}), True),
        (versions(None, {}, {"dask-training": None}), True),
        (versions(None, {}, {"dask-training": "0.0.1"}), False),
    ],
)
def test_whether_our_backend_can_be_used_is_seen_on_all(found, lacks):
    assert guest.lacks(found, "dask-training") is lacks


def test_modules_and_packages_of_the_code_are_found(tmp_path):
    (tmp_path / "helpers.py").touch()
    (tmp_path / "not-a-module.py").touch()
    (tmp_path / "data.csv").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    assert guest.importable_from(tmp_path) == ("helpers", "package")
    assert guest.importable_from(tmp_path / "missing") == ()


HELPERS = """\
def square(n):
    return n * n

class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return square(self.side)
"""
# In a process of its own, for it changes how distributed pickles.
BY_VALUE = """
import json, sys
from dask_training.runner.joblib_setup import pickle_by_value
from distributed.protocol import deserialize, serialize
pickle_by_value(("helpers", "json"))
import helpers
from distributed.protocol import pickle
import numpy
big = numpy.arange(100_000)
sent = [pickle.dumps(helpers.square), pickle.dumps({"a": [helpers.Square(2)]})]
framed = serialize([helpers.square, big])
del sys.modules["helpers"]
sys.path.remove(sys.argv[1])
function, made = pickle.loads(sent[0]), pickle.loads(sent[1])
again, array = deserialize(*framed)
print(json.dumps([function(3), made["a"][0].area(), again(4), int(array.sum()) == int(big.sum())]))
"""


def test_what_is_defined_in_the_code_arrives_where_it_can_not_be_imported(tmp_path):
    (tmp_path / "helpers.py").write_text(HELPERS)
    code = "import sys; sys.path.insert(0, sys.argv[1])\n" + BY_VALUE
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [9, 4, 16, True]
