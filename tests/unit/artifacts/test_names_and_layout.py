"""Names that a store may be given, and the keys made of them."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dask_training.artifacts import check_name, key_prefix, local_key_prefix
from dask_training.artifacts.names import join, problem_with, shown
from dask_training.errors import UnsafeNameError


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("//x", "absolute"),
        ("../x", "'..'"),
        ("a/../x", "'..'"),
        ("a/..", "'..'"),
        ("./a", "'.'"),
        ("a/./b", "'.'"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("a\0b", "control character (U+0000)"),
        ("a\nb", "control character (U+000A)"),
        ("a\x1b[2Jb", "control character (U+001B)"),
        ("a\x7f", "control character (U+007F)"),
        ("a\x85b", "control character (U+0085)"),
        ("a\u2028b", "line separator"),
        ("a\u2029b", "paragraph separator"),
        ("txt.\u202eexe", "direction of text (U+202E)"),
        ("a\\..\\b", "backslash"),
        ("x" * 256, "256 bytes, at most 255"),
        ("é" * 128, "256 bytes, at most 255"),
        ("a/" * 512 + "b", "1025 bytes, at most 1024"),
        (os.fsdecode(b"a\xff"), "not valid UTF-8"),
    ],
)
def test_an_unsafe_name_is_refused_with_the_rule_it_breaks(name, says):
    with pytest.raises(UnsafeNameError) as caught:
        check_name(name)
    assert says in str(caught.value)
    assert str(caught.value).isprintable(), "the message would do to a terminal what the name would"
    assert str(caught.value).endswith("; rename it")


@pytest.mark.parametrize(
    "name",
    ["a", "a/b/c.txt", "...", "..a", "a..", ".hidden", "größe.txt", "模型/a", "x" * 255, "é" * 127, " a ", "a b+%20?#&",
     "-rf", "~", "C:", "CON", "a:b", "a*", "🎉", "manifest.json", "e\u0301", "a\u00a0b"],
)  # fmt: skip
def test_other_names_are_kept_as_they_are(name):
    assert check_name(name) == name


odd = st.sampled_from(["..", ".", "", "b c", "\\", "\0", "é", "x" * 255, "x" * 256, "\udcff", "manifest.json"])
names = st.text(st.characters(), max_size=12) | st.lists(odd | st.just("a") | st.text(max_size=4), max_size=5).map(
    "/".join
)


@given(names)
@settings(max_examples=200)
def test_a_name_that_is_accepted_means_a_file_below_the_folder_and_nothing_else(name):
    if problem_with(name) is not None:
        return
    root = Path("/some/root")
    path = Path(os.path.normpath(root / name))
    assert path.is_relative_to(root)
    assert path != root
    assert path.relative_to(root).as_posix() == name
    assert os.fsencode(name).decode() == name
    assert name.isprintable() or all(not character.isascii() for character in name if not character.isprintable())


@given(names)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_name_that_is_accepted_can_be_a_file_here(tmp_path_factory, name):
    if problem_with(name) is not None:
        return
    path = tmp_path_factory.mktemp("n") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert path.is_file()


@given(names)
def test_what_is_shown_of_a_name_is_printable_and_short(name):
    assert shown(name).isprintable() or "\u202e" not in shown(name)
    assert len(shown(name)) <= 120
    assert not {"\n", "\x1b", "\0"} & set(shown(name))


@given(st.sampled_from(["", "run", "a/b"]), names)
def test_a_joined_key_lies_below_its_prefix(prefix, name):
    try:
        key = join(prefix, name)
    except UnsafeNameError:
        return
    assert key == (f"{prefix}/{name}" if prefix else name)
    assert Path(os.path.normpath(key)).as_posix() == key


labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
uids = st.uuids().map(str) | st.from_regex(r"[A-Za-z0-9-]{1,8}", fullmatch=True).filter(lambda uid: uid[0] != "-")
anything = st.text(max_size=12) | st.sampled_from(["..", ".", "", "a/b", "/", "a\n", "1/2", "-", "a."])
jobs = st.tuples(
    labels | anything, labels | anything, uids | anything, st.integers(-1, 12) | st.sampled_from([True, 1.0, "1"])
)


def prefix_or_none(job):
    try:
        return key_prefix(*job)
    except UnsafeNameError:
        return None


@given(st.lists(jobs, min_size=2, max_size=8, unique=True), st.lists(names, min_size=1, max_size=3))
@settings(max_examples=200)
def test_no_job_can_produce_a_key_of_another(jobs, names):
    prefixes = {job: prefix for job in jobs if (prefix := prefix_or_none(job)) is not None}
    for (one, first), (other, second) in itertools.combinations(prefixes.items(), 2):
        assert first != second, (one, other)
        assert not (first + "/").startswith(second + "/")
        assert not (second + "/").startswith(first + "/")
        for name in names:
            if problem_with(name) is None:
                assert not join(first, name).startswith(second + "/")


@given(labels, labels, uids, st.integers(1, 10**6))
def test_what_kubernetes_gives_makes_four_components(namespace, name, uid, attempt):
    assert key_prefix(namespace, name, uid, attempt).split("/") == [namespace, name, uid, str(attempt)]


@pytest.mark.parametrize(
    "job",
    [
        ("..", "job", "uid", 1),
        ("ns", "..", "uid", 1),
        ("ns", "job/other", "uid", 1),
        ("ns", "job", "uid/../x", 1),
        ("ns", "job", "", 1),
        ("ns", "job\n", "uid", 1),
        ("NS", "job", "uid", 1),
        ("ns", "j" * 64, "uid", 1),
        ("ns", "job", "uid", 0),
        ("ns", "job", "uid", True),
        ("ns", "job", "uid", "1/../2"),
    ],
)
def test_parts_that_could_reach_elsewhere_are_refused(job):
    with pytest.raises(UnsafeNameError):
        key_prefix(*job)


@pytest.mark.parametrize(("name", "run"), [("job", ".."), ("job", "a/b"), ("job", ".tmp"), ("Job", "1"), ("job", "")])
def test_a_local_run_has_a_plain_name(name, run):
    assert local_key_prefix("flights", "20260102-030405-ab12") == "flights/20260102-030405-ab12"
    with pytest.raises(UnsafeNameError):
        local_key_prefix(name, run)
