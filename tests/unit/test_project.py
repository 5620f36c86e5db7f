"""The files around the code agree with the code, and with each other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dask_training.api import Condition, ExitCode, Progress, Reason

# In two parts each, so that this file passes its own test.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "crates" + ".io",
    "proxy.go" + "lang.org",
    "repo1.ma" + "ven.org",
    "repo.ma" + "ven.apache.org",
    "deb.de" + "bian.org",
    "conda.ana" + "conda.org",
]


@pytest.fixture(scope="module")
def texts(project_files) -> dict[Path, str]:
    found = {}
    for path in project_files:
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def test_no_file_names_a_package_registrys_host(texts):
    """Where packages come from is the installing machine's business: docs/adr/0004-locks-without-index-hosts.md."""
    assert len(texts) > 100
    named = [f"{path}: {host}" for path, text in texts.items() for host in REGISTRIES if host in text.lower()]
    assert named == []


def test_text_ends_with_one_newline_and_no_line_ends_with_a_blank(texts):
    """As .editorconfig says and the commit hooks check; what other programs wrote is as it is."""
    own = {path: text for path, text in texts.items() if text and path.suffix not in {".svg", ".html", ".csv", ".json"}}
    assert [str(path) for path, text in own.items() if not text.endswith("\n") or text.endswith("\n\n")] == []
    assert [str(path) for path, text in own.items() if re.search(r"[ \t]$", text, re.MULTILINE)] == []


# Docs.


def rows(path: Path, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = path.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_exit_codes_are_documented(root):
    documented = {name: int(code) for code, name, *_ in rows(root / "docs" / "exit-codes.md", "Exit codes") if name}
    assert documented == {each.name: each.value for each in ExitCode}


def test_reasons_are_documented(root):
    table = rows(root / "docs" / "exit-codes.md", "Reasons")
    assert [reason for reason, *_ in table] == [each.value for each in Reason]
    known = {str(each.value) for each in ExitCode} | {"the code's", "128 + N", "137"}
    assert {code for _, codes, *_ in table for code in codes.split(" or ")} <= known


def test_conditions_are_documented(root):
    page = root / "docs" / "exit-codes.md"
    assert [row[0] for row in rows(page, "Conditions")] == [each.value for each in Condition]
    assert [row[0] for row in rows(page, "Reasons of a job that goes on")] == [each.value for each in Progress]


def test_every_problem_says_what_to_do(root):
    page = root / "docs" / "exit-codes.md"
    silent = {row[0] for heading in ("Exit codes", "Reasons") for row in rows(page, heading) if not row[-1]}
    assert silent == {"0", "130", "143", "Completed", "Interrupted"}


def test_links_between_pages_lead_somewhere(texts):
    pages = {path: text for path, text in texts.items() if path.suffix == ".md"}
    links = [(page, link) for page, text in pages.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [(page, link) for page, link in links if not re.match(r"[a-z]+:", link)]
    assert len(local) > 5
    broken = []
    for page, link in local:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{page}: {link}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index(root):
    docs = root / "docs"
    index = (docs / "README.md").read_text()
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


def test_decisions_are_numbered_and_have_the_three_parts(root):
    decisions = sorted((root / "docs" / "adr").glob("*.md"))
    for number, path in enumerate(decisions, start=1):
        text = path.read_text()
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(decisions) >= 4


# The kind node.


def test_what_is_built_for_a_node_is_what_its_versions_say(root):
    node = root / "images" / "kind-node"
    said = dict(re.findall(r"^([A-Z_]+)=(\S+)", (node / "versions").read_text(), re.MULTILINE))
    locked = dict(re.findall(r"^\s*(\S+/\S+) (v\S+)", (node / "programs" / "go.mod").read_text(), re.MULTILINE))
    assert locked["k8s.io/kubernetes"] == said["KUBERNETES"]
    assert locked["go.etcd.io/etcd/server/v3"] == "v" + said["ETCD"].partition("-")[0]
    assert locked["github.com/rancher/local-path-provisioner"] == said["LOCAL_PATH"]
    assert locked["helm.sh/helm/v3"] == said["HELM"]


# Makefile, hooks and CI.


def recipes(root: Path) -> dict[str, list[str]]:
    """Target -> the lines of its recipe."""
    text = (root / "Makefile").read_text().replace("\\\n", "")
    found = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", text, re.MULTILINE)
    return {target: recipe.splitlines() for target, recipe in found}


def test_every_target_is_short_and_has_its_line_in_the_help(root):
    targets = recipes(root)
    text = (root / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert set(targets) == set(phony)
    assert [target for target in targets if not re.search(rf"^{target}:.*  ## \S", text, re.MULTILINE)] == []
    assert {target for target, recipe in targets.items() if len(recipe) > 5} == set()
    assert next(iter(targets)) == "help"


def test_ci_runs_what_the_readme_tells_people_to_run(root):
    last = (root / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert re.fullmatch(r"make( --\S+)* test", last)
    assert "make test" in (root / "README.md").read_text()


def test_commit_hooks_run_the_linters_that_ci_runs(root):
    hooks = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"], "nothing is fetched"
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks[0]["hooks"]]
    tools = {
        each for line in recipes(root)["lint"] for each in re.findall(r"\$\(BIN\)/(\S+(?: (?:check|format))?)", line)
    }
    assert len(tools) == 6
    assert {tool for tool in tools if not any(entry.startswith(tool) for entry in entries)} == set()
    scripts = Path(sys.executable).parent
    assert [entry for entry in entries if not (scripts / entry.split()[0]).exists()] == []


def test_the_hooks_configuration_is_valid(root):
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(root / ".pre-commit-config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_are_sound_shell(texts):
    scripts = {path: text for path, text in texts.items() if re.match(r"#!.*\bbash\b", text)}
    assert len(scripts) > 8
    for path, text in scripts.items():
        assert path.stat().st_mode & 0o111, path
        # Or by way of what they share, in their first line of code.
        assert re.search(r"^set -euo pipefail$|^source .*/lib\.sh\"$", text, re.MULTILINE), path
        assert text.count("\n") <= 150, path
        subprocess.run(["bash", "-n", str(path)], check=True)
