"""The charts on a cluster: install, upgrade with a job running, rollback, uninstall with live jobs, rights.

The cluster's own installation is used, for there can be one CRD alone; it is put back as it was in the end.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from machine import slowdown, wait_until

from dask_training.kube.rbac import RULES, Scope

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "dask-training-operator"
JOB_CHART = ROOT / "charts" / "dask-training-job"
CRD = "dasktrainingjobs.dask-training.io"
SMALL = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
WAIT = "import pathlib, time\nwhile not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.05)\n"
KEEPS = "import os, pathlib\npathlib.Path(os.environ['ARTIFACTS_DIR'], 'kept.txt').write_text('kept')\n"

pytestmark = [pytest.mark.exclusive, pytest.mark.timeout(300)]


class Tools:
    """helm and kubectl for the test cluster."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster

    def helm(self, *arguments: str | Path, stdin: str = "") -> str:
        return self.cluster.helm(*map(str, arguments), stdin=stdin, timeout=200)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> dict:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, namespace: str, body: dict) -> None:
        self.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(body))


@dataclass
class Release:
    """The installation of the operator's chart: its name and place, and the values that it was found with."""

    tools: Tools
    name: str
    namespace: str
    values: dict

    def install(self, chart: Path = CHART, **values: object) -> None:
        """Installs it or upgrades it to this chart with its own values and these."""
        given = yaml.safe_dump(self.values | values)
        options = ("--namespace", self.namespace, "--create-namespace", "--wait", "--timeout", "120s", "--values", "-")
        self.tools.helm("upgrade", "--install", self.name, chart, *options, stdin=given)

    def uninstall(self) -> None:
        self.tools.helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--ignore-not-found")

    def kept(self) -> dict:
        """What an upgrade must not change: content of the Secrets, uids of the volume claim and the CRD."""
        options = ("-n", self.namespace, "-l", f"app.kubernetes.io/instance={self.name}")
        secrets = self.tools.get("secrets", *options)["items"]
        claims = self.tools.get("pvc", *options)["items"]
        crd = self.tools.get("crd", CRD)["metadata"]["uid"]
        return {each["metadata"]["name"]: each["data"] for each in secrets} | {
            "claims": [each["metadata"]["uid"] for each in claims],
            "crd": crd,
        }

    def account(self) -> str:
        """User name of the operator's service account."""
        options = ("-l", f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=operator")
        [operator] = self.tools.get("deployments", "-n", self.namespace, *options)["items"]
        account = operator["spec"]["template"]["spec"]["serviceAccountName"]
        return f"system:serviceaccount:{self.namespace}:{account}"


@pytest.fixture(scope="module")
def tools(cluster) -> Tools:
    return Tools(cluster)


@pytest.fixture(scope="module")
def found(tools) -> Iterator[Release]:
    """The installation as the tests find it; put back when they are done."""
    releases = json.loads(tools.helm("list", "--all-namespaces", "--output", "json"))
    [release] = [each for each in releases if each["chart"].startswith(f"{CHART.name}-")]
    options = ("--namespace", release["namespace"], "--output", "json")
    values = json.loads(tools.helm("get", "values", release["name"], *options)) or {}
    found = Release(tools, release["name"], release["namespace"], values)
    yield found
    found.install()


@pytest.fixture
def release(found) -> Release:
    """The installation, as it was found."""
    found.install()
    return found


@pytest.fixture
def make_namespace(tools, reported) -> Iterator[Callable[[], str]]:
    """Makes namespaces that refuse pods with rights; deleted after the test."""
    made = []

    def make() -> str:
        name = f"charts-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        tools.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        made.append(name)
        reported(name)
        return name

    yield make
    if made:
        tools.kubectl("delete", "namespace", *made, "--ignore-not-found", "--timeout=60s")


@pytest.fixture
def team(make_namespace) -> str:
    return make_namespace()


def job(name: str, script: str) -> dict:
    spec = {
        "scheduler": {"dashboard": False, "resources": SMALL},
        "runner": {"script": script, "resources": SMALL},
        "workers": {"replicas": 1, "resources": SMALL},
    }
    return {
        "apiVersion": "dask-training.io/v1alpha1",
        "kind": "DaskTrainingJob",
        "metadata": {"name": name},
        "spec": spec,
    }


def start(tools: Tools, namespace: str, name: str = "waits") -> str:
    """Starts a job whose script waits for `go`; returns its runner's pod when the job is Running."""
    tools.apply(namespace, job(name, WAIT + KEEPS))
    reference = f"dasktrainingjob/{name}"
    wait_until(lambda: tools.get(reference, "-n", namespace).get("status", {}).get("phase") == "Running", every=0.3)
    label = f"dask-training.io/job={name},dask-training.io/role=runner"
    [runner] = tools.get("pods", "-n", namespace, "-l", label)["items"]
    return runner["metadata"]["name"]


def go(tools: Tools, namespace: str, runner: str) -> None:
    tools.kubectl("-n", namespace, "exec", runner, "--", "touch", "/tmp/go")


def complete(tools: Tools, namespace: str, name: str, timeout: int = 90) -> dict:
    """The job, once it has succeeded."""
    reference = f"dasktrainingjob/{name}"
    tools.kubectl("-n", namespace, "wait", "--for=condition=Complete", reference, f"--timeout={timeout}s")
    return tools.get(reference, "-n", namespace)


def pods(tools: Tools, namespace: str) -> set[tuple[str, int]]:
    """The job's pods by uid, each with how often its container was started again."""
    items = tools.get("pods", "-n", namespace, "-l", "dask-training.io/job-uid")["items"]
    return {(each["metadata"]["uid"], each["status"]["containerStatuses"][0]["restartCount"]) for each in items}


@pytest.fixture
def previous(tmp_path) -> Path:
    """The chart as the version before might have been: an older number, a CRD without a column, other log output."""
    chart = tmp_path / CHART.name
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": "0.0.1"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    crd = yaml.safe_load((chart / "files" / "crd.yaml").read_text())
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    columns[:] = [each for each in columns if each["name"] != "Dashboard"]
    (chart / "files" / "crd.yaml").write_text(yaml.safe_dump(crd))
    values = (chart / "values.yaml").read_text()
    assert "    level: INFO" in values
    (chart / "values.yaml").write_text(values.replace("    level: INFO", "    level: DEBUG"))
    return chart


def columns_of(tools: Tools) -> set[str]:
    [version] = tools.get("crd", CRD)["spec"]["versions"]
    return {each["name"] for each in version["additionalPrinterColumns"]}


def test_an_upgrade_and_a_rollback_leave_a_running_job_alone(release, tools, team, previous):
    release.install(previous)
    assert "Dashboard" not in columns_of(tools)
    kept = release.kept()
    runner = start(tools, team)
    before = pods(tools, team)

    release.install()
    assert "Dashboard" in columns_of(tools)
    assert release.kept() == kept
    assert pods(tools, team) == before

    tools.helm("rollback", release.name, "--namespace", release.namespace, "--wait")
    assert "Dashboard" not in columns_of(tools)
    assert release.kept() == kept
    assert pods(tools, team) == before

    release.install()
    go(tools, team, runner)
    status = complete(tools, team, "waits")["status"]
    assert (status["attempt"], status["workers"]["restarts"], status["workers"]["lost"]) == (1, 0, 0)
    assert status["artifacts"]["files"] > 0


def test_uninstall_with_a_live_job_keeps_what_it_says_and_blocks_no_namespace(release, tools, team):
    kept = release.kept()
    start(tools, team)
    before = pods(tools, team)
    release.uninstall()
    assert release.kept() == {name: value for name, value in kept.items() if not name.endswith("-key")}
    assert pods(tools, team) == before
    assert tools.get("dasktrainingjob/waits", "-n", team)["status"]["phase"] == "Running"

    started = time.monotonic()
    tools.kubectl("delete", "namespace", team, "--timeout=60s")
    assert time.monotonic() - started < 30 * slowdown()

    release.install()
    assert {name: value for name, value in release.kept().items() if not name.endswith("-key")} == {
        name: value for name, value in kept.items() if not name.endswith("-key")
    }


def test_artifacts_can_still_be_stored_after_the_store_was_installed_again(release, tools, team):
    tools.apply(team, job("before", KEEPS))
    complete(tools, team, "before")
    release.uninstall()
    release.install()
    tools.apply(team, job("after", KEEPS))
    assert complete(tools, team, "after")["status"]["artifacts"]["files"] > 0


def test_an_installation_for_namespaces_runs_their_jobs_with_roles_alone(release, tools, make_namespace):
    watched, other = make_namespace(), make_namespace()
    release.install(rbac={"scope": "namespaces", "watchNamespaces": [watched]})
    options = ("-l", f"app.kubernetes.io/instance={release.name}")
    assert tools.get("clusterroles,clusterrolebindings", *options)["items"] == []
    for namespace in (other, watched):
        tools.apply(namespace, job("hello", KEEPS))
    assert complete(tools, watched, "hello")["status"]["artifacts"]["files"] > 0
    assert "status" not in tools.get("dasktrainingjob/hello", "-n", other)
    assert tools.get("pods", "-n", other)["items"] == []
    assert rights(tools, release.account(), watched) == needed(Scope.JOBS)
    assert rights(tools, release.account(), other) == set()


def needed(*scopes: Scope) -> set[tuple[str, str, str]]:
    """What kube/rbac.py says, as (group/resource, names, verbs)."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for rule in RULES:
        for resource in rule.resources if rule.scope in scopes else ():
            wanted.setdefault((f"{rule.group}/{resource}", " ".join(rule.names)), set()).update(rule.verbs)
    return {(place, names, " ".join(sorted(verbs))) for (place, names), verbs in wanted.items()}


def rights(tools: Tools, user: str, namespace: str) -> set[tuple[str, str, str]]:
    """What `kubectl auth can-i --list` says of a user, without what every service account may."""

    def listed(name: str) -> set[tuple[str, str, str]]:
        wanted: dict[tuple[str, str], set[str]] = {}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        command = ("create", "--as", name, "--validate=false", "-f", "-", "-o", "json")
        for rule in json.loads(tools.kubectl(*command, stdin=json.dumps(review)))["status"]["resourceRules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    key = (f"{group}/{resource}", " ".join(rule.get("resourceNames", ())))
                    wanted.setdefault(key, set()).update(rule["verbs"])
        return {(place, names, " ".join(sorted(verbs))) for (place, names), verbs in wanted.items()}

    return listed(user) - listed("system:serviceaccount:default:nobody")


def test_the_operator_s_rights_are_those_that_its_code_needs(release, tools, team):
    """`kubectl auth can-i --list`, as the API server decides it."""
    account = release.account()
    assert rights(tools, account, team) == needed(Scope.JOBS)
    assert rights(tools, account, release.namespace) == needed(Scope.JOBS, Scope.OPERATOR)


def test_the_operator_reads_no_secrets_and_enters_no_pods(release, tools, team):
    wanted = {
        "get secrets": "no",
        "list secrets": "no",
        "watch secrets": "no",
        "patch secrets": "no",
        "get secrets/dask-training-store": "no",
        "patch secrets/dask-training-store": "yes",
        "create secrets": "yes",
        "create pods --subresource=exec": "no",
        "create dasktrainingjobs": "no",
        "update dasktrainingjobs": "no",
        "get nodes": "no",
        "list namespaces": "no",
        "list customresourcedefinitions": "no",
    }

    def may(question: str) -> str:
        command = ("-n", team, "auth", "can-i", *question.split(), "--as", release.account())
        return tools.kubectl(*command, check=False).split()[0]  # "no" is exit code 1; warnings come behind it

    assert {question: may(question) for question in wanted} == wanted


def test_people_work_with_jobs_where_the_values_say(release, tools, make_namespace):
    team, other = make_namespace(), make_namespace()
    bindings = [
        {"namespace": team, "subjects": [{"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}]},
        {
            "namespace": team,
            "role": "viewer",
            "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    ]
    release.install(userRole={"bindings": bindings})
    body = json.dumps(job("theirs", "print()"))

    def applied(user: str, namespace: str) -> bool:
        command = ("-n", namespace, "--as", user, "apply", "--dry-run=server", "-f", "-")
        said = tools.kubectl(*command, stdin=body, check=False)
        assert "created" in said or "Forbidden" in said, said
        return "Forbidden" not in said

    assert [applied("ada", team), applied("ada", other), applied("bob", team)] == [True, False, False]
    assert tools.kubectl("-n", team, "--as", "bob", "get", "dtj") == ""


def test_a_job_from_the_job_s_chart_runs_and_goes_with_its_release(release, tools, team, tmp_path):
    assert release
    (tmp_path / "train.py").write_text("import helpers\n" + KEEPS + "print(helpers.A)\n")
    (tmp_path / "helpers.py").write_text("A = 1\n")
    values = {
        "runner": {"resources": SMALL},
        "workers": {"replicas": 1, "resources": SMALL},
        "scheduler": {"dashboard": False, "resources": SMALL},
    }
    files = {"runner.script": "train.py", r"codeFiles.helpers\.py": "helpers.py"}
    set_files = [each for value, file in files.items() for each in ("--set-file", f"{value}={tmp_path / file}")]
    options = ("--namespace", team, *set_files, "--values", "-")
    tools.helm("install", "mine", JOB_CHART, *options, stdin=yaml.safe_dump(values))
    assert complete(tools, team, "mine")["status"]["artifacts"]["files"] > 0
    tools.helm("uninstall", "mine", "--namespace", team)
    mine = ("dtj,pods,configmaps", "-n", team, "-l", "app.kubernetes.io/instance=mine")
    wait_until(lambda: not tools.get(*mine)["items"], every=0.3)
    wait_until(lambda: not tools.get("pods,services", "-n", team)["items"], every=0.3)
