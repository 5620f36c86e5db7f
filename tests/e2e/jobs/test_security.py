"""What a job's pods may do, who may talk to them, and where secrets must not be found."""

import base64
import json

import yaml
from machine import slowdown

from dask_training import api
from dask_training.api import Label

CANARY = "canary-5d41402abc4b"  # what must be nowhere but in its Secret and in its container
RESTRICTED = "pod-security.kubernetes.io/{}=restricted"
# Prints one JSON document about the pod that it runs in.
LOOK = """
import json, os, pathlib

def can_write(path):
    try:
        pathlib.Path(path, "probe").write_text("")
        return True
    except OSError:
        return False

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("LOOK", json.dumps({
    "user": os.getuid(),
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "services": [name for name in os.environ if name.endswith("_SERVICE_HOST") and name != "KUBERNETES_SERVICE_HOST"],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip() == "1",
    "seccomp": status["Seccomp"].strip() == "2",
    "writes": [path for path in ("/", "/etc", "/opt", "/usr", "/tmp", "/work") if can_write(path)],
    "store": os.path.exists("/etc/dask-training-store"),
    "keys": sorted(path.name for path in pathlib.Path("/etc/dask-training").iterdir() if path.name[0] != "."),
}), flush=True)
"""


def secret(jobs, name) -> dict[str, str]:
    found = jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/secrets/{name}")
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def attempt(jobs, name) -> str:
    """Name of the job's first attempt: of its Service, Secret and NetworkPolicy."""
    return api.attempt_name(name, jobs.get(name)["metadata"]["uid"], 1)


def test_a_restricted_namespace_admits_every_pod_without_a_warning(jobs, wait_script):
    labels = [RESTRICTED.format(mode) for mode in ("enforce", "warn", "audit")]
    jobs.kubectl("label", "namespace", jobs.namespace, *labels)
    volumes = [{"name": "scratch", "emptyDir": {}}]
    mount = [{"name": "scratch", "mountPath": "/scratch"}]
    jobs.start("strict", wait_script, volumes=volumes, runner={"volumeMounts": mount}, workers={"volumeMounts": mount})
    runner = jobs.waiting("strict")
    assert len(jobs.pods("strict")) == 3
    for pod in jobs.pods("strict"):
        meant = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "copy"}, "spec": pod["spec"]}
        said = jobs.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(meant), warnings=True)
        assert said.strip() == "pod/copy created (server dry run)"
    jobs.release(runner)
    assert jobs.end("strict")["status"]["phase"] == "Succeeded"


def test_pods_have_no_token_no_rights_and_the_keys_of_their_own_role_alone(jobs, wait_script):
    jobs.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "neighbour"},
            "spec": {"ports": [{"port": 80}]},
        }
    )
    jobs.start("modest", f"{LOOK}\n{wait_script}")
    runner = jobs.waiting("modest")
    (line,) = [line for line in jobs.log(runner).splitlines() if line.startswith("LOOK ")]
    seen = {"runner": json.loads(line[5:])}
    for role in ("scheduler", "worker"):
        said = jobs.kubectl("exec", jobs.pod("modest", role), "--", "python", "-c", LOOK)
        seen[role] = json.loads(said.removeprefix("LOOK "))
    keys = {
        "scheduler": ["ca.pem", "scheduler.pem", "token"],
        "runner": ["ca.pem", "client.pem", "job.json"],
        "worker": ["ca.pem", "worker.pem"],
    }
    for role, look in seen.items():
        assert look == {
            "user": 1000,
            "token": False,
            "services": [],
            "capabilities": 0,
            "no_new_privileges": True,
            "seccomp": True,
            "writes": ["/tmp", "/work"],
            "store": role == "runner",
            "keys": keys[role],
        }, role
    jobs.release(runner)
    jobs.end("modest")


# Tries to reach a scheduler as a neighbour would; says what came of it.
KNOCK = """
import asyncio, sys
from distributed import Client
from distributed.security import Security

def security(folder):
    leaf = f"{folder}/client.pem"
    return Security(tls_ca_file=f"{folder}/ca.pem", tls_client_cert=leaf, tls_client_key=leaf, require_encryption=True)

address = sys.argv[1]
tries = {
    "plain": ("tcp://" + address, Security(require_encryption=False)),
    "other": ("tls://" + address, security("/other")),
    "mixed": ("tls://" + address, Security(
        tls_ca_file="/own/ca.pem", tls_client_cert="/other/client.pem", tls_client_key="/other/client.pem",
    )),
    "own": ("tls://" + address, security("/own")),
}

async def knock(place, security, timeout):
    try:
        async with Client(place, security=security, timeout=timeout, asynchronous=True) as client:
            return await client.submit(sum, [1, 2])
    except OSError as error:
        return "refused"

for name, (place, how) in tries.items():
    print(name, asyncio.run(knock(place, how, 60 if name == "own" else 4)), flush=True)
"""


def test_a_plain_connection_and_another_jobs_certificate_are_refused(jobs, wait_script):
    for name in ("mine", "other"):
        jobs.start(name, wait_script)
    runner = jobs.waiting("mine")
    jobs.waiting("other")
    service = jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/services/{attempt(jobs, 'mine')}")
    (scheduler,) = jobs.pods("mine", role="scheduler")
    pod = neighbour(jobs, scheduler, f"{service['spec']['clusterIP']}:8786")
    jobs.apply(pod)
    seconds = round(60 * slowdown())
    jobs.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/neighbour", f"--timeout={seconds}s")
    assert jobs.log("neighbour").splitlines() == ["plain refused", "other refused", "mixed refused", "own 3"]

    status = "http://127.0.0.1:8787/dask-training/v1/status"
    ask = f"import urllib.request as r; print(r.urlopen({status!r}).status)"
    refused = jobs.kubectl("exec", jobs.pod("mine", "scheduler"), "--", "python", "-c", ask, may_fail=True)
    assert "401" in refused
    jobs.release(runner)
    body = jobs.end("mine")
    assert body["status"]["phase"] == "Succeeded", "nobody disturbed it"


def neighbour(jobs, scheduler, address) -> dict:
    """A pod beside a job's, that has somehow come by the client certificates of two jobs.

    It has the labels of the job's own pods, but for the role, so that no network policy stands in its way.
    """
    (container,) = scheduler["spec"]["containers"]
    names = {"own": attempt(jobs, "mine"), "other": attempt(jobs, "other")}
    labels = {key: value for key, value in scheduler["metadata"]["labels"].items() if key != Label.ROLE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "neighbour", "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": scheduler["spec"]["securityContext"],
            "containers": [
                {
                    "name": "neighbour",
                    "image": container["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", KNOCK, address],
                    "securityContext": container["securityContext"] | {"readOnlyRootFilesystem": False},
                    "volumeMounts": [{"name": key, "mountPath": f"/{key}"} for key in names],
                }
            ],
            "volumes": [{"name": key, "secret": {"secretName": name}} for key, name in names.items()],
        },
    }


def test_a_network_policy_lets_in_a_jobs_own_pods_and_the_operator_alone(jobs, operator, wait_script):
    jobs.start("guarded", wait_script)
    runner = jobs.waiting("guarded")
    (policy,) = jobs.made("guarded", ("networkpolicies",))
    own = policy["spec"]["podSelector"]["matchLabels"]
    pods = jobs.pods("guarded")
    assert len(pods) == 3
    for pod in pods:
        assert own.items() <= pod["metadata"]["labels"].items()
    assert own[Label.JOB_UID] == jobs.get("guarded")["metadata"]["uid"], "no other job's pods"
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    among, status = policy["spec"]["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": own}}]}, "at any port: xgboost.dask opens its own"
    (source,) = status["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": operator.namespace}
    selector = ",".join(f"{key}={value}" for key, value in source["podSelector"]["matchLabels"].items())
    found = jobs.api.items(f"/api/v1/namespaces/{operator.namespace}/pods", labelSelector=selector)
    assert set(operator.pods()) <= {pod["metadata"]["name"] for pod in found}
    assert [port["port"] for port in status["ports"]] == [8787]
    made = [policy["metadata"]["creationTimestamp"], *(pod["metadata"]["creationTimestamp"] for pod in pods)]
    assert made[0] == min(made), "it is there before the pods"
    jobs.release(runner)
    jobs.end("guarded")


def test_secrets_are_in_no_log_no_event_no_status_and_no_manifest(jobs, operator, fetch, wait_script):
    data = {"token": CANARY, "AWS_ACCESS_KEY_ID": f"{CANARY}-id", "AWS_SECRET_ACCESS_KEY": f"{CANARY}-key"}
    data["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    jobs.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}, "stringData": data})
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "private", "key": "token"}}}]
    use = "import os\nassert os.environ['TOKEN'].startswith('canary')\n"
    jobs.start("uses", use + wait_script, env=env)
    destination = {"destination": {"url": "s3://no-such-bucket/x", "secretRef": {"name": "private"}}}
    jobs.start("stores", use + "raise SystemExit(4)\n", env=env, artifacts=destination)
    runner = jobs.waiting("uses")
    keys = secret(jobs, attempt(jobs, "uses"))
    assert "PRIVATE KEY" in keys["client.pem"]
    mine = [value for key, value in keys.items() if key.endswith(".pem") and key != "ca.pem"] + [keys["token"]]
    lines = {line for value in mine for line in value.splitlines() if "-----" not in line and len(line) > 30}
    hidden = {CANARY, secret(jobs, api.STORE_SECRET)["AWS_SECRET_ACCESS_KEY"], *lines}
    assert len(hidden) > 6

    everything = {f"log of {pod['metadata']['name']}": jobs.log(pod["metadata"]["name"]) for pod in jobs.pods("uses")}
    everything["pods"] = jobs.kubectl("get", "pods", "-o", "yaml")
    environment = jobs.kubectl("exec", jobs.pod("uses", "worker"), "--", "env")
    assert f"TOKEN={CANARY}" in environment.splitlines(), "the user wants it there"
    everything["environment"] = environment.replace(f"TOKEN={CANARY}", "")
    jobs.release(runner)
    jobs.end("uses")
    kept = fetch("uses")
    for path in kept.folder.rglob("*"):
        if path.is_file():
            everything[str(path)] = path.read_text(errors="replace")
    jobs.end("stores", 150)
    everything["jobs"] = jobs.kubectl("get", "dtj", "-o", "yaml")
    everything["events"] = jobs.kubectl("get", "events", "-o", "yaml")
    everything["services and policies"] = jobs.kubectl("get", "services,networkpolicies,configmaps", "-o", "yaml")
    everything["the operator's log"] = operator.log()
    assert len(everything["the operator's log"]) > 100
    assert {where for where, text in everything.items() for value in hidden if value in text} == set()


def test_the_operator_may_not_read_secrets_nor_run_anything_in_pods(jobs, operator):
    account = f"system:serviceaccount:{operator.namespace}:{operator.account}"

    def may(verb, what) -> bool:
        resource, _, part = what.partition("/")
        command = ["auth", "can-i", verb, resource, f"--subresource={part}", f"--as={account}"]
        return jobs.kubectl(*command, may_fail=True).startswith("yes")

    assert may("create", "secrets")
    assert may("deletecollection", "pods")
    assert may("patch", "dasktrainingjobs.dask-training.io/status")
    forbidden = [(verb, "secrets") for verb in ("get", "list", "watch", "delete", "deletecollection", "update")]
    forbidden += [("create", "pods/exec"), ("create", "pods/attach"), ("get", "pods/log"), ("create", "roles")]
    forbidden += [(verb, "dasktrainingjobs.dask-training.io") for verb in ("create", "update", "patch")]
    assert [each for each in forbidden if may(*each)] == []
    listed = jobs.kubectl("auth", "can-i", "--list", f"--as={account}")
    assert "*.*" not in [row.split()[0] for row in listed.splitlines()[1:] if row.strip()]
