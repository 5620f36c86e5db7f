"""`dask-training init`: scripts into job files, byte for byte."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dask_training.api import ExitCode
from dask_training.cli import scaffold
from dask_training.cli.app import run_command_line
from dask_training.cli.imports import RUNTIME_IMPORTS, imported_modules, needs_of
from dask_training.model import JobFileError, load_job_file


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfd):
    def command(*arguments: str) -> tuple[int, str, str]:
        code = run_command_line(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return command


def held_script(text: str) -> str:
    """The script in a job file."""
    job_file = load_job_file(text)
    runner = job_file.job().spec.runner
    if runner.script_from is None:
        return runner.script
    source = runner.script_from.config_map
    return job_file.config_maps[source.name][source.key]


def job_with(script: str, **fields) -> scaffold.Job:
    defaults = {"name": "j", "file": "job.yaml", "script_name": "s.py", "workers": 2, "memory": "1Gi"}
    return scaffold.Job(script=script, **(defaults | fields))


# What goes in comes out.

NASTY = {
    "trailing spaces": "x = 1   \ny = 2\t\n",
    "tabs": "if True:\n\tx = 1\n\t\n",
    "no newline at the end": "x = 1",
    "many newlines at the end": "x = 1\n\n\n",
    "spaces on the last line": "x = 1\n   ",
    "newlines first": "\n\n  \nx = 1\n",
    "a comment first": "#!/usr/bin/env python\n# x\nx = 1\n",
    "an indented comment first": "    # x\nx = 1\n",
    "unicode": 'x = "ü 漢字 😀 \u2028 \u2029 \x85 \ufeff \x7f \xa0"\n',
    "a very long line": f"x = '{'a b ' * 5000}'\n",
    "crlf": "x = 1\r\nif x:\r\n  y = 2\r\n",
    "mixed line ends": "x = 1\r\ny = 2\nz = 3\r\n",
    "yaml's own marks": "'''\n---\n...\n%YAML 1.2\n- a: b\n# c\n| > & * ! {} []\n'''\n",
    "form feed": "x = 1\n\x0c\ny = 2\n",
    "backslashes and quotes": 'x = "\\\\ \\" \\n"\nz = r"\\"\n'.replace('\nz = r"\\"', ""),
    "too long to be inline": "x = 1\n" * 6000,
    "too long, crlf, indented": "if 1:\r\n    x = 1\r\n" * 3000,
}


@pytest.mark.parametrize("newline", NASTY)
def test_nasty_scripts_come_out_byte_for_byte(run, folder, newline):
    script = NASTY[newline].encode()
    (folder / "s.py").write_bytes(script)
    code, out, err = run("init", "s.py")
    assert (code, out) == (0, ""), err
    assert held_script((folder / "job.yaml").read_bytes().decode()).encode() == script
    assert run("validate", "job.yaml")[0] == 0


characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    " \t\n\r\"'\\#-:%|>&*!{}[]`@,?\x85\u2028\ufeff\x0c"
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(characters, min_size=1, max_size=60))
@example(text=" \n#")
@example(text="\t\n \n")
@example(text="a\n ")
@example(text=" a\r")
@example(text="- \n\n")
def test_any_text_survives_yaml_literal_or_quoted(text):
    quoted = f"data:\n  k: {scaffold.quoted(text, 4)}\nnext: 1\n"
    assert yaml.safe_load(quoted) == {"data": {"k": text}, "next": 1}
    literal = scaffold.literal(text, 4)
    if literal is not None:
        assert yaml.safe_load(f"data:\n  k: {literal}\nnext: 1\n") == {"data": {"k": text}, "next": 1}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(characters, max_size=60), before=st.sampled_from(["", " ", "\n", "\t", "  \n"]))
def test_any_script_survives_a_whole_job_file(text, before):
    script = f"{before}# {text}".replace("\r", "\n#").replace("\n", "\n#").replace("\x0c", "")
    script = script.replace("\0", "")
    written = scaffold.job_file(job_with(script, modules={"helper.py": script, "other.py": "x = 1\n"}))
    try:
        job_file = load_job_file(written)
    except JobFileError as error:  # the script itself is no Python: nothing else may be wrong
        assert all("of the script" in problem.message for problem in error.problems), written  # noqa: PT017 - either
    else:
        assert held_script(written) == script
        assert job_file.config_maps["j-code"] == {"helper.py": script, "other.py": "x = 1\n"}


def test_plain_scripts_are_readable_in_the_file(run, folder):
    (folder / "s.py").write_text("import os\n\nprint(os.name)\n")
    assert run("init", "s.py")[0] == 0
    assert (folder / "job.yaml").read_text().endswith("    script: |\n      import os\n\n      print(os.name)\n")


def test_a_byte_order_mark_is_left_out(run, folder):
    (folder / "s.py").write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert run("init", "s.py")[0] == 0
    assert held_script((folder / "job.yaml").read_text()) == "x = 1\n"


# What is refused.


def test_scripts_that_can_not_run_are_refused(run, folder):
    for content, said in {
        b"": "s.py:1: the script is empty",
        b"x = (\n": "s.py:1: line 1 of the script is not Python",
        b"x = 1\n\xe9\n": "s.py:2: is not UTF-8 (byte 0xe9); convert it: iconv -f latin1 -t utf-8 s.py",
        b"x = '\0'\n": "s.py:1: line 1 of the script holds a null character",
        b"# " + b"a" * 1_100_000 + b"\n": "a ConfigMap holds at most 1,048,576",
    }.items():
        (folder / "s.py").write_bytes(content)
        code, out, err = run("init", "s.py")
        assert (code, out) == (ExitCode.BAD_JOB_FILE, "")
        assert said in err
        assert not (folder / "job.yaml").exists()


def test_what_is_not_there_or_in_the_way_is_wrong_usage(run, folder):
    (folder / "train.py").write_text("x = 1\n")
    (folder / "job.yaml").write_text("mine")
    for arguments, said in {
        ("trein.py",): "no such file: trein.py; did you mean train.py?",
        ("train.py",): "job.yaml exists; choose another name with -o, or --force to overwrite it",
        ("train.py", "-o", "none/job.yaml"): "can't write none/job.yaml: No such file or directory",
        ("nb.ipynb",): "jupyter nbconvert --to script nb.ipynb",
    }.items():
        code, out, err = run("init", *arguments)
        assert (code, out) == (2, "")
        assert said in err
    assert (folder / "job.yaml").read_text() == "mine"
    assert run("init", "train.py", "--force")[0] == 0
    assert held_script((folder / "job.yaml").read_text()) == "x = 1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "My_Job"], "metadata.name: "),
        (["--memory", "2 gigs"], "spec.workers.resources."),
        (["--package", "--index-url=x"], "spec.packages[0]: must be a package, not an option of pip"),
    ],
)
def test_options_that_the_job_model_refuses_are_named_by_field(run, folder, arguments, said):
    (folder / "s.py").write_text("x = 1\n")
    code, _, err = run("init", "s.py", *arguments)
    assert code == ExitCode.BAD_JOB_FILE
    assert said in err
    assert not (folder / "job.yaml").exists()


# What it writes.


def test_options_reach_the_job(run, folder):
    (folder / "s.py").write_text("x = 1\n")
    code, out, _ = run(
        "init", "s.py", "-o", "-", "--name", "mine", "--workers", "12", "--memory", "512Mi",
        "--package", "lightgbm==4.6.0", "--package", 'torch; python_version > "3"',
    )  # fmt: skip
    job = load_job_file(out).job()
    assert code == 0
    assert job.name == "mine"
    assert job.spec.workers.replicas == 12
    assert job.spec.workers.resources.memory_limit_bytes == 512 * 2**20
    assert list(job.spec.packages) == ["lightgbm==4.6.0", 'torch; python_version > "3"']


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("train", "train"),
        ("Train_Model v2", "train-model-v2"),
        ("2013", "job-2013"),
        ("___", "job"),
        ("ünïcode", "n-code"),
        ("a" * 60, "a" * 40),
        ("a" * 39 + "-b", "a" * 39),
    ],
)
def test_names_of_jobs_come_from_files(stem, name):
    assert scaffold.job_name(stem) == name


@pytest.mark.parametrize("stem", ["on", "null", "yes", "true", "e1"])
def test_a_name_that_yaml_takes_for_something_else_is_still_a_name(run, folder, stem):
    (folder / f"{stem}.py").write_text("x = 1\n")
    code, out, err = run("init", f"{stem}.py", "-o", "-")
    assert code == 0, err
    assert load_job_file(out).job().name == stem


def test_odd_file_names_stay_in_their_comments(run, folder):
    name = "a\nkind: Pod #.py"
    (folder / name).write_text("x = 1\r\n", newline="")
    code, out, err = run("init", name, "-o", "-")
    assert code == 0, err
    assert held_script(out) == "x = 1\r\n"


def test_a_script_that_never_mentions_the_artifacts_folder_is_said_to(run, folder):
    (folder / "s.py").write_text("x = 1\n")
    assert "nothing in it mentions ARTIFACTS_DIR" in run("init", "s.py")[2]
    (folder / "s.py").write_text("import os\nos.environ['ARTIFACTS_DIR']\n")
    assert "ARTIFACTS_DIR" not in run("init", "s.py", "--force")[2]


# Imports.


def test_imports_are_found_wherever_they_are_but_not_those_for_type_checkers():
    script = (
        "import a.b as c, d\n"
        "from e.f import g\n"
        "from . import h\n"
        "def i():\n    import j\n"
        "try:\n    import k\nexcept ImportError:\n    pass\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import l\nelse:\n    import m\n"
    )
    assert imported_modules(script) == {"a": 1, "d": 1, "e": 2, "j": 5, "k": 7, "typing": 10, "m": 14}


def test_packages_that_the_image_lacks_are_proposed_as_installed_here(run, folder):
    script = (
        "import os, numpy, sklearn.svm, dask_training\n"
        "import hypothesis\nimport pytest as p\nimport no_such_thing\nimport cv2\n"
    )
    (folder / "s.py").write_text(script)
    code, out, err = run("init", "s.py", "-o", "-")
    assert code == 0, err
    expected = [f"{name}=={metadata.version(name)}" for name in ("hypothesis", "pytest")]
    assert list(load_job_file(out).job().spec.packages) == expected
    assert "# - opencv-python-headless  # for 'import cv2' in line 5; not installed here\n" in out
    assert "# - no_such_thing  # for 'import no_such_thing' in line 4; not installed here; is that its name" in out


def test_a_package_that_is_given_is_not_proposed_again(run, folder):
    (folder / "s.py").write_text("import hypothesis\nimport cv2\n")
    given = ["--package", "Hypothesis>=6", "--package", "opencv_python.headless"]
    _, out, _ = run("init", "s.py", "-o", "-", *given)
    assert list(load_job_file(out).job().spec.packages) == ["Hypothesis>=6", "opencv_python.headless"]
    assert "for 'import" not in out


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "Some.Package==1.2"),
        ('{"url": "https://example.org/x.whl", "archive_info": {}}', "Some.Package==1.2"),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', ""),
    ],
)
def test_what_is_installed_from_a_folder_can_not_be_pinned_nor_a_local_version(
    folder, monkeypatch, origin, requirement
):
    info = folder / "site" / "Some.Package-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some.Package\nVersion: 1.2+cpu\n")
    (info / "top_level.txt").write_text("some_package_of_ours\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(folder / "site"))
    (proposal,) = needs_of("import some_package_of_ours.x", folder / "elsewhere").proposals
    assert proposal.requirement == requirement
    assert proposal.guess == ("" if requirement else "Some.Package")


def test_modules_beside_the_script_come_along_with_what_they_import(run, folder):
    (folder / "s.py").write_text("import helper\nimport pkg.sub\nfrom s import x\n")
    (folder / "helper.py").write_bytes(b"import deeper\r\nimport hypothesis\r\n")
    (folder / "deeper.py").write_text("import helper\n")
    (folder / "unused.py").write_text("")
    (folder / "pkg").mkdir()
    (folder / "pkg" / "sub.py").write_text("")
    code, out, err = run("init", "s.py", "-o", "-")
    assert code == 0, err
    job_file = load_job_file(out)
    job = job_file.job()
    assert job.spec.code.config_map.name == "s-code"
    assert job_file.config_maps["s-code"] == {
        "helper.py": "import deeper\r\nimport hypothesis\r\n",
        "deeper.py": "import helper\n",
    }
    assert job_file.check_local(job) == []
    assert any(package.startswith("hypothesis==") for package in job.spec.packages)
    assert "# pkg: imported" in out


def test_what_the_image_is_said_to_have_is_in_its_lock(root):
    lock = (root / "locks" / "runtime.txt").read_text()
    locked = {re.sub(r"[-_.]+", "-", name.lower()) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    modules = metadata.packages_distributions()
    brought = {
        module for module, names in modules.items() if any(re.sub(r"[-_.]+", "-", n.lower()) in locked for n in names)
    }
    assert brought >= RUNTIME_IMPORTS
    needed = {"numpy", "pandas", "sklearn", "scipy", "joblib", "matplotlib", "dask", "distributed", "PIL", "yaml"}
    assert needed <= RUNTIME_IMPORTS
