"""The cluster of `make kind` does what the jobs rely on, and the images are what they say."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(name: str, code: str, image: str = "dask-training-runtime:dev", **container) -> dict:
    """A pod that the restricted standard admits, and that runs some Python."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "command": ["python", "-c", code],
                    "securityContext": RESTRICTED,
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
                | container
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


@pytest.fixture
def run(kind_cluster, apply, namespace, wait_for):
    """Runs a pod to its end; gives the container's final state and what it has printed."""

    def run(body: dict) -> tuple[dict, str]:
        said = apply(body)
        assert "Warning" not in said
        name = body["metadata"]["name"]

        def ended() -> dict | None:
            (status,) = kind_cluster.get("pod", name, namespace)["status"].get("containerStatuses", [{}])
            return status.get("state", {}).get("terminated")

        return wait_for(ended, timeout=60), kind_cluster.kubectl("-n", namespace, "logs", name)

    return run


# The cluster.


def test_the_node_is_ready_and_leaves_the_cores_to_the_jobs(kind_cluster):
    (node,) = kind_cluster.get("nodes")["items"]
    assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.34.")
    asked = kind_cluster.get("pods", namespace="kube-system")["items"]
    cpu = [c["resources"].get("requests", {}).get("cpu", "0") for each in asked for c in each["spec"]["containers"]]
    assert sum(int(value.removesuffix("m")) for value in cpu) <= 300


def test_pods_find_services_by_name_and_by_address(run, apply):
    apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "server"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
        }
    )
    server = pod("server", "", command=["python", "-m", "http.server", "8000", "--directory", "/tmp"])
    server["metadata"]["labels"] = {"app": "server"}
    apply(server)
    code = """
import socket, time, urllib.request
for _ in range(300):  # names and addresses are known some moments after their Service
    try:
        for name in ("server", "kubernetes.default.svc.cluster.local"):
            print(name, socket.gethostbyname(name))
        print(urllib.request.urlopen(f"http://{socket.gethostbyname('server')}/", timeout=1).status)
        break
    except OSError as error:
        print(error)
        time.sleep(0.1)
"""
    state, log = run(pod("client", code))
    assert state["exitCode"] == 0, log
    assert log.splitlines()[-1] == "200"


def test_a_service_that_nobody_knows_refuses_connections(kind_cluster, run):
    """They do not leave the node, where something else might answer them."""
    [known] = kind_cluster.get("servicecidrs")["items"]
    unknown = ipaddress.ip_network(known["spec"]["cidrs"][0])[-2]
    code = f"""
import socket
try:
    socket.create_connection(({str(unknown)!r}, 8786), timeout=20)
except OSError as error:
    print(type(error).__name__)
"""
    _, log = run(pod("client", code))
    assert log == "ConnectionRefusedError\n"


def test_a_volume_claim_is_fulfilled_and_writable(run, apply):
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim})

    def user(name: str, code: str) -> dict:
        body = pod(name, code)
        body["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data"}})
        body["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
        return body

    state, log = run(user("writer", "open('/data/file', 'w').write('kept')"))
    assert state["exitCode"] == 0, log
    state, log = run(user("reader", "print(open('/data/file').read())"))
    assert (state["exitCode"], log.strip()) == (0, "kept")


@pytest.mark.parametrize(("limit", "exit_code"), [("64Mi", 137), ("512Mi", 0)])
def test_a_memory_limit_holds(run, limit, exit_code):
    """Its reason is not asked for: containerd hears of a kill for memory beside the exit, and sometimes after it."""
    resources = {"requests": {"cpu": "10m"}, "limits": {"memory": limit}}
    state, log = run(pod("greedy", "b'x' * (256 * 2**20)", resources=resources))
    assert state["exitCode"] == exit_code, log


def test_a_pod_that_is_not_restricted_is_refused(kind_cluster, apply):
    body = pod("root", "")
    body["spec"]["securityContext"] = {"runAsUser": 0}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        apply(body)


# The images.


@pytest.fixture
def inspect(kind_cluster):
    def inspect(name: str) -> dict:
        (found,) = json.loads(kind_cluster.docker("image", "inspect", kind_cluster.images[name]))
        return found

    return inspect


@pytest.fixture
def inside(kind_cluster):
    """Runs a program in an image as its own user, on a read-only root filesystem and without a network."""

    def inside(name: str, *command: str, check: bool = True) -> str:
        options = (
            "--rm",
            "--read-only",
            "--network=none",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
        )
        entrypoint, *arguments = command
        image = kind_cluster.images[name]
        return kind_cluster.docker("run", *options, f"--entrypoint={entrypoint}", image, *arguments, check=check)

    return inside


@pytest.mark.parametrize("name", ["operator", "runtime", "store"])
def test_an_image_says_what_it_is_and_runs_as_nobody_special(inspect, name):
    found = inspect(name)
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in found["Config"]["Labels"].items()}
    assert labels["title"] == f"dask-training-{name}"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", labels["version"])
    assert re.fullmatch(r"[0-9a-f]{40}|", labels["revision"])
    assert found["Config"]["User"] == "1000:1000"


def test_the_operator_s_image_is_small(inspect):
    assert inspect("operator")["Size"] < 200e6
    assert inspect("store")["Size"] < 60e6


def test_the_operator_s_image_holds_no_dask_no_compiler_and_no_installer(inside):
    code = """
import importlib.util, json, os, pwd, shutil
modules = ["dask", "distributed", "sklearn", "numpy", "pandas", "joblib", "pip", "kopf", "kubernetes", "dask_training"]
programs = ["gcc", "cc", "pip", "apt-get", "perl", "python"]
print(json.dumps({
    "modules": [name for name in modules if importlib.util.find_spec(name)],
    "programs": [name for name in programs if shutil.which(name)],
    "user": [os.getuid(), pwd.getpwuid(os.getuid()).pw_name],
}))
"""
    assert json.loads(inside("operator", "python", "-c", code)) == {
        "modules": ["kopf", "kubernetes", "dask_training"],
        "programs": ["python"],
        "user": [1000, "dask-training"],
    }


def test_the_operator_s_programs_load_what_they_need(inside):
    """The image leaves out parts of libraries that are loaded on demand."""
    code = """
import importlib, pkgutil, dask_training
for package in ("kube", "handlers"):
    found = importlib.import_module(f"dask_training.{package}")
    for module in pkgutil.walk_packages(found.__path__, f"dask_training.{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_incluster_config
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
request = AWSRequest("GET", "http://store/bucket")
S3SigV4Auth(Credentials("a", "b"), "s3", "us-east-1").add_auth(request)
print(request.headers["Authorization"][:16])
"""
    assert inside("operator", "python", "-c", code).strip() == "AWS4-HMAC-SHA256"


# How a distribution is imported, where its name does not say so.
IMPORTS = {"scikit-learn": "sklearn", "prometheus-client": "prometheus_client", "pyyaml": "yaml"}
NEEDED = [
    *("dask", "distributed", "scikit-learn", "joblib", "pandas", "numpy", "bokeh", "lz4", "prometheus-client", "s3fs"),
    *("matplotlib", "psutil", "cryptography", "pyyaml", "kubernetes"),
]


def test_the_runtime_imports_on_a_read_only_root_what_the_lock_says(inside):
    lock = (ROOT / "locks" / "runtime.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+?)(?: ; python_full_version < '3\.12')? \\$", lock, re.MULTILINE))
    code = f"""
import importlib, importlib.metadata, json
names = {NEEDED!r}
for name in names:
    importlib.import_module({IMPORTS!r}.get(name, name))
import dask_training
print(json.dumps({{name: importlib.metadata.version(name) for name in names}}))
"""
    assert json.loads(inside("runtime", "python", "-W", "error", "-c", code)) == {name: locked[name] for name in NEEDED}


@pytest.mark.parametrize("name", ["operator", "runtime"])
def test_everything_is_compiled_beforehand(inside, name):
    """A pod can't write byte code; compiling at each start would cost seconds."""
    code = """
import importlib.util, pathlib, sysconfig
folder = pathlib.Path(sysconfig.get_path("purelib"))
sources = list(folder.rglob("*.py"))
missing = [str(path) for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).exists()]
print(len(sources), *missing[:5])
"""
    count, *missing = inside(name, "python", "-c", code).split()
    assert int(count) > 500
    assert missing == []


@pytest.mark.parametrize("name", ["operator", "runtime"])
def test_the_machine_s_certificates_are_trusted(kind_cluster, inside, name):
    here = Path("/etc/ssl/certs/ca-certificates.crt")
    code = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    if not here.exists():
        pytest.skip("this machine keeps its certificates elsewhere")
    own = kind_cluster.run(
        "python3", "-c", f"import ssl; print(len(ssl.create_default_context(cafile={str(here)!r}).get_ca_certs()))"
    )
    assert inside(name, "python", "-c", code) == own


def test_the_runtime_is_what_the_command_line_runs_on(inside):
    assert re.fullmatch(r"dask-training \d+\.\d+\.\d+\S*\n", inside("runtime", "dask-training", "--version"))


def test_the_store_answers(inside):
    assert "versitygw" in inside("store", "/usr/local/bin/versitygw", "--help")
