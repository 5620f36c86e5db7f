"""What can't be stored is named, so that all else can be."""

import os

from dask_training.artifacts import over_limit, refused
from dask_training.artifacts.collect import collect


def test_what_a_store_would_refuse_is_named_with_its_reason(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best.joblib").write_bytes(b"model")
    (tmp_path / "latest.joblib").symlink_to("models/best.joblib")
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("models")
    (tmp_path / "models" / "bad\nname").touch()
    os.mkfifo(tmp_path / "pipe")
    found = refused(tmp_path)
    assert set(found) == {"out", "folder", "models/bad\nname", "pipe"}
    assert "leads out of the folder" in found["out"]
    for path in found:
        (tmp_path / path).unlink()
    assert refused(tmp_path) == {}
    assert [source.path for source in collect(tmp_path)] == ["latest.joblib", "models/best.joblib"]


def test_the_largest_files_are_left_out_until_the_rest_fits(tmp_path):
    for name, size in (("a", 10), ("b", 500), ("c", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert over_limit(tmp_path, 610) == []
    assert over_limit(tmp_path, 609) == ["b"]
    assert over_limit(tmp_path, 15) == ["b", "c"]
    assert over_limit(tmp_path, 0) == ["b", "c", "a"]
