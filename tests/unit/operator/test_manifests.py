"""What is made for a job: valid, guarded, owned, and nobody's but its own."""

from __future__ import annotations

import base64
import copy
import datetime
import json
import re

import kubernetes_validate
import msgspec
import pytest

from dask_training import api
from dask_training.api import Label, Role
from dask_training.certificates import make_certificates
from dask_training.manifests import (
    Attempt,
    engine_pod,
    engines_network_policy,
    engines_service,
    network_policy,
    reader_pod,
    runner_pod,
    scheduler_pod,
    scheduler_service,
    scheduler_token,
    secret_request,
    worker_pod,
)
from dask_training.model import TrainingJob
from dask_training.runner.pod.engine import Code
from dask_training.settings import OperatorSettings

VERSION = "1.34"
UID = "7d0e8a0e-3c1b-4f0e-9b57-0d2d9a3b1c11"
ADDRESS = "tls://10.96.0.7:8786"
DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
FULL = {
    "image": "registry/own:1",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "packages": ["lightgbm==4.7.0"],
    "code": {"configMap": {"name": "my-code"}},
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ],
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": True}}],
    "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "unused", "configMap": {"name": "c"}},
    ],
    "serviceAccountName": "trainer",
    "priorityClassName": "high",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}
            ]
        }
    },
    "runner": {
        "script": "import pandas as pd\nfrom sklearn.svm import SVC",
        "env": [{"name": "A", "value": "2"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
    },
    "workers": {
        "resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": 1}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    },
    "artifacts": {"destination": {"url": "s3://b/p", "secretRef": {"name": "s3"}}},
}
SPECS = {
    "least": {"runner": {"module": "m"}},
    "full": FULL,
    "script in a ConfigMap, claim": {
        "runner": {"scriptFrom": {"configMap": {"name": "c", "key": "train.py"}}},
        "artifacts": {"destination": {"persistentVolumeClaim": {"claimName": "a", "subPath": "runs"}}},
    },
}


def attempt_of(spec, name="job", number=1, labels=None, **settings):
    metadata = {"name": name, "namespace": "ml", "uid": UID, "labels": labels or {"team": "a"}}
    job = TrainingJob.from_body({"metadata": metadata, "spec": copy.deepcopy(spec)})
    settings = OperatorSettings(key=b"k" * 32, namespace="system", **settings)
    return Attempt(job, number, settings, datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC))


def pods_of(attempt):
    return [scheduler_pod(attempt), runner_pod(attempt, ADDRESS), worker_pod(attempt, 3, ADDRESS)]


def all_of(attempt):
    request = secret_request(attempt, "service-uid")
    secret = request.manifest(make_certificates("job", request.roles, lifetime_seconds=60))
    return [scheduler_service(attempt), network_policy(attempt, "service-uid"), secret, *pods_of(attempt)]


def variables(pod):
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in pod["spec"]["containers"][0]["env"]}


def mounts(pod):
    return {each["mountPath"]: each for each in pod["spec"]["containers"][0]["volumeMounts"]}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_object_is_what_kubernetes_takes(spec):
    for manifest in all_of(attempt_of(spec)):
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        assert json.loads(json.dumps(manifest)) == manifest, "plain JSON, no enums"


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_objects_of_mode_workers_are_what_kubernetes_takes_and_have_their_owners(spec):
    attempt = attempt_of(spec, name="x" * 40, number=999)
    service, policy = engines_service(attempt), engines_network_policy(attempt, "service-uid")
    pod = engine_pod(attempt, 999)
    for manifest in (service, policy, pod):
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        assert json.loads(json.dumps(manifest)) == manifest, "plain JSON, no enums"
        assert DNS_1123.fullmatch(manifest["metadata"]["name"])
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert owner["uid"] == ("service-uid" if manifest is policy else UID)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}], "all of the namespace, nobody else"


def test_an_engine_runs_its_code_once_and_knows_what_one_of_cml_does():
    spec = copy.deepcopy(FULL) | {"mode": "Workers"}
    spec["env"] += [{"name": "CDSW_ENGINE_ID", "value": "mine"}, {"name": "CDSW_MASTER_IP", "value": "10.0.0.1"}]
    spec["workers"]["volumeMounts"] += [dict(spec["runner"]["volumeMounts"][0])]
    attempt = attempt_of(spec)
    pod = engine_pod(attempt, 1)
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "dask_training.runner.pod", "engine"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 10
    assert pod["metadata"]["labels"][Label.ROLE] == "worker"
    assert pod["metadata"]["labels"][Label.INDEX] == "1"
    assert container["resources"]["requests"]["cpu"] == "1500m"
    given = variables(pod)
    assert len(given) == len(container["env"]), "none is there twice"
    assert given["CDSW_ENGINE_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert given["CDSW_IP_ADDRESS"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert given["CDSW_MASTER_IP"] == "10.0.0.1"
    assert given["DASK_TRAINING_THREADS"] == "2", "its CPU request, rounded up"
    assert "DASK_SCHEDULER_ADDRESS" not in given
    assert set(mounts(pod)) == {"/etc/dask-training", "/tmp", "/work", "/code", "/data", "/scratch"}
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    assert not any("secret" in each for each in volumes.values())
    (item,) = volumes["dask-training-engine"]["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{api.CODE_ANNOTATION}']"
    code = msgspec.json.decode(pod["metadata"]["annotations"][api.CODE_ANNOTATION], type=Code)
    assert code.name in ("spec.runner.script", "module m")
    runner = attempt.job.spec.runner
    assert (code.script, code.module, code.args) == (runner.script, runner.module, runner.args)


@pytest.mark.parametrize("name", ["a", "x" * 40, "a-b"])
@pytest.mark.parametrize("number", [1, 99, 9999])
def test_names_are_short_and_plain(name, number):
    attempt = attempt_of(SPECS["least"], name=name, number=number)
    names = [manifest["metadata"]["name"] for manifest in [*all_of(attempt), worker_pod(attempt, 999, ADDRESS)]]
    assert [name for name in names if not DNS_1123.fullmatch(name)] == []
    assert len(set(names)) == 5, "Service, NetworkPolicy and Secret are called alike"


def test_another_job_of_the_same_name_has_other_names():
    assert api.attempt_name("job", "uid-1", 1) != api.attempt_name("job", "uid-2", 1)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_object_is_labelled_and_owned(spec):
    for manifest in all_of(attempt_of(spec)):
        labels = manifest["metadata"]["labels"]
        assert labels[Label.JOB] == "job"
        assert labels[Label.JOB_UID] == UID
        assert labels[Label.ATTEMPT] == "1"
        assert labels[Label.MANAGED_BY] == "dask-training-operator"
        assert labels[Label.ROLE] in ("scheduler", "runner", "worker", "cluster")
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert owner["controller"] is owner["blockOwnerDeletion"] is True
        below_service = manifest["kind"] in ("Secret", "NetworkPolicy")
        assert (owner["kind"], owner["uid"]) == (("Service", "service-uid") if below_service else (api.KIND, UID))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_pods_are_restricted(spec):
    job = attempt_of(spec).job
    reader = reader_pod(job, name="reader", image="i", token="t", uid=UID)
    for pod in [*pods_of(attempt_of(spec)), engine_pod(attempt_of(spec), 3), reader]:
        spec_of_pod = pod["spec"]
        (container,) = spec_of_pod["containers"]
        assert spec_of_pod["automountServiceAccountToken"] is False
        assert spec_of_pod["enableServiceLinks"] is False
        assert spec_of_pod["securityContext"]["runAsNonRoot"] is True
        assert spec_of_pod["securityContext"]["runAsUser"] == spec_of_pod["securityContext"]["fsGroup"] == 1000
        assert spec_of_pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = {key for volume in spec_of_pod["volumes"] for key in volume if key != "name"}
        assert kinds <= {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "secret"}


def test_objects_share_no_parts():
    attempt = attempt_of(FULL)
    before = json.dumps(pods_of(attempt))

    def spoil(value):
        for item in list(value.values()) if isinstance(value, dict) else list(value):
            if isinstance(item, dict | list):
                spoil(item)
        value.clear()

    for manifest in all_of(attempt):
        spoil(manifest)
    assert json.dumps(pods_of(attempt)) == before


def test_each_pod_has_its_own_way_to_end():
    scheduler, runner, worker = (pod["spec"] for pod in pods_of(attempt_of(FULL)))
    assert [pod["restartPolicy"] for pod in (scheduler, runner, worker)] == ["Never", "Never", "OnFailure"]
    assert [pod["terminationGracePeriodSeconds"] for pod in (scheduler, runner, worker)] == [2, 30, 60]


def test_scheduler_and_runner_are_not_moved_to_save_a_node():
    scheduler, runner, worker = pods_of(attempt_of(FULL))
    for pod in (scheduler, runner):
        assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert "annotations" not in worker["metadata"]


def test_each_role_is_told_what_it_needs():
    scheduler, runner, worker = pods_of(attempt_of(FULL))
    for pod, role in ((scheduler, "scheduler"), (runner, "runner"), (worker, "worker")):
        assert pod["spec"]["containers"][0]["command"] == ["python", "-m", "dask_training.runner.pod", role]
        told = variables(pod)
        assert told["DASK_TRAINING_ROLE"] == role
        assert told["DASK_TRAINING_JOB_NAME"] == "job"
        assert told["DASK_TRAINING_JOB_NAMESPACE"] == "ml"
        assert told["DASK_TRAINING_JOB_UID"] == UID
        assert told["DASK_TRAINING_ATTEMPT"] == "1"
        assert json.loads(told["DASK_TRAINING_PACKAGES"]) == ["lightgbm==4.7.0"]
        assert told["DASK_TRAINING_PREIMPORT"] == "pandas,sklearn.svm"
        assert told["DASK_TRAINING_POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
        assert told["HOME"] == "/work"
        names = [each["name"] for each in pod["spec"]["containers"][0]["env"]]
        assert len(names) == len(set(names))
    assert variables(scheduler)["DASK_TRAINING_DASHBOARD"] == "true"
    assert variables(worker)["DASK_TRAINING_THREADS"] == "2"
    assert variables(worker)["DASK_SCHEDULER_ADDRESS"] == variables(runner)["DASK_SCHEDULER_ADDRESS"] == ADDRESS
    assert variables(runner)["DASK_TRAINING_STORE_URL"] == "s3://b/p"
    assert variables(runner)["DASK_TRAINING_FIRST_STARTED"] == "2026-03-01T00:00:00+00:00"
    assert "DASK_TRAINING_MEMORY_LIMIT" in variables(worker)
    assert "DASK_TRAINING_MEMORY_LIMIT" not in variables(scheduler), "it has no limit"


def test_the_runners_own_variables_win():
    scheduler, runner, _ = pods_of(attempt_of(FULL))
    assert (variables(scheduler)["A"], variables(runner)["A"]) == ("1", "2")


def test_secrets_are_shown_to_nobody_who_needs_them_not():
    scheduler, runner, worker = pods_of(attempt_of(FULL))

    def files(pod):
        return {
            item["path"]
            for volume in pod["spec"]["volumes"]
            if volume["name"] == "dask-training-credentials"
            for item in volume["secret"]["items"]
        }

    assert files(scheduler) == {"ca.pem", "scheduler.pem", "token"}
    assert files(worker) == {"ca.pem", "worker.pem"}
    assert files(runner) == {"ca.pem", "client.pem", "job.json"}
    assert [("/etc/dask-training-store" in mounts(pod)) for pod in (scheduler, runner, worker)] == [False, True, False]


def test_volumes_are_mounted_where_they_are_asked_for():
    scheduler, runner, worker = pods_of(attempt_of(FULL))
    assert {"/tmp", "/work", "/code", "/etc/dask-training"} <= mounts(scheduler).keys()
    assert mounts(runner)["/data"] == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert "/data" not in mounts(worker)
    assert "/scratch" in mounts(worker)
    for pod in (scheduler, runner, worker):
        names = [volume["name"] for volume in pod["spec"]["volumes"]]
        assert {mount["name"] for mount in mounts(pod).values()} == set(names)
        assert len(names) == len(set(names))


def test_a_claim_is_mounted_by_the_runner_alone():
    attempt = attempt_of(SPECS["script in a ConfigMap, claim"])
    scheduler, runner, worker = pods_of(attempt)
    assert mounts(runner)["/artifact-store"]["subPath"] == "runs"
    assert mounts(runner)["/script"]["readOnly"] is True
    assert variables(runner)["DASK_TRAINING_STORE_URL"] == "file:///artifact-store"
    assert not {"/artifact-store", "/script"} & (mounts(scheduler).keys() | mounts(worker).keys())


def test_without_a_destination_the_namespaces_bucket_is_used():
    runner = runner_pod(attempt_of(SPECS["least"]), ADDRESS)
    assert variables(runner)["DASK_TRAINING_STORE_URL"] == "s3://artifacts-ml"
    (volume,) = (v for v in runner["spec"]["volumes"] if v["name"] == "dask-training-store-credentials")
    assert volume["secret"]["secretName"] == "dask-training-store"


def test_long_namespaces_have_buckets_of_their_own():
    first, second = (api.store_bucket("n" * 62 + end) for end in "ab")
    assert first != second
    assert len(first) <= 63


def test_pod_fields_of_the_spec_are_honoured():
    for pod in pods_of(attempt_of(FULL)):
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert (container["image"], container["imagePullPolicy"]) == ("registry/own:1", "Always")
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("trainer", "high")
        assert spec["nodeSelector"] == {"disk": "ssd"}
        assert spec["tolerations"] == FULL["tolerations"]
        assert spec["affinity"] == FULL["affinity"]
        assert container["envFrom"] == [
            {"prefix": "P_", "configMapRef": {"name": "c", "optional": False}},
            {"prefix": "", "secretRef": {"name": "s", "optional": True}},
        ]


def test_the_operators_settings_fill_in_what_the_spec_leaves_open():
    attempt = attempt_of(SPECS["least"], runtime_image="ours:1", image_pull_policy="Never", priority_class="low")
    for pod in pods_of(attempt):
        assert pod["spec"]["containers"][0]["image"] == "ours:1"
        assert pod["spec"]["containers"][0]["imagePullPolicy"] == "Never"
        assert pod["spec"]["priorityClassName"] == "low"


def test_requests_are_small_where_none_are_given_and_never_above_limits():
    scheduler, runner, worker = (pod["spec"]["containers"][0]["resources"] for pod in pods_of(attempt_of(FULL)))
    assert scheduler == {"requests": {"cpu": "100m", "memory": "256Mi"}}
    assert runner == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    assert worker == {"requests": {"cpu": "1500m"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": 1}}


def test_nobody_but_the_attempt_and_the_operator_gets_in():
    policy = network_policy(attempt_of(FULL), "service-uid")["spec"]
    own = {Label.JOB_UID.value: UID, Label.ATTEMPT.value: "1"}
    assert policy["podSelector"] == {"matchLabels": own}
    assert policy["policyTypes"] == ["Ingress"]
    inside, operator = policy["ingress"]
    assert inside["from"] == [{"podSelector": {"matchLabels": own}}]
    assert "ports" not in inside, "xgboost.dask's tracker and workers listen at ports of their own choice"
    assert [port["port"] for port in operator["ports"]] == [8787]
    (source,) = operator["from"]
    assert source["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "system"}}
    assert source["podSelector"]["matchLabels"]


def test_a_session_s_clients_are_let_in_to_the_scheduler_alone():
    *_, clients = network_policy(attempt_of({"mode": "Session"}), "service-uid")["spec"]["ingress"]
    assert clients["from"] == [{"podSelector": {}}]  # of this namespace
    assert [port["port"] for port in clients["ports"]] == [8786, 8787]


def test_a_session_s_scheduler_knows_when_nobody_uses_it():
    def told(session):
        found = variables(scheduler_pod(attempt_of({"mode": "Session", "idleTimeoutSeconds": 60, **session})))
        return [found.get(f"DASK_TRAINING_{name}_TIMEOUT") for name in ("IDLE", "NO_CLIENT")]

    assert told({}) == told({"session": {}}) == ["60", None]
    assert told({"session": {"noClientTimeoutSeconds": 30}}) == ["60", "30"]
    assert "DASK_TRAINING_IDLE_TIMEOUT" not in variables(scheduler_pod(attempt_of(FULL)))


def test_every_object_has_the_job_s_own_labels_and_no_others():
    labels = {
        "team": "a",
        "corp.example/cost-centre": "7",
        "app.kubernetes.io/name": "mine",
        "app.kubernetes.io/instance": "argo",
        "dask-training.io/role": "worker",
        "dask-training.io/mine": "x",
    }
    attempt = attempt_of(FULL, labels=labels)
    for manifest in all_of(attempt):
        found = manifest["metadata"]["labels"]
        assert (found["team"], found["corp.example/cost-centre"]) == ("a", "7")
        assert found["app.kubernetes.io/name"] == "dask-training-job"
        assert not {"app.kubernetes.io/instance", "dask-training.io/mine"} & found.keys()
    assert scheduler_pod(attempt)["metadata"]["labels"]["dask-training.io/role"] == "scheduler"
    assert scheduler_service(attempt)["spec"]["selector"].keys() & labels.keys() == {"dask-training.io/role"}


def test_the_service_finds_the_scheduler_of_its_attempt_alone():
    service = scheduler_service(attempt_of(FULL, number=2))["spec"]
    assert service["selector"] == {
        Label.JOB_UID.value: UID,
        Label.ATTEMPT.value: "2",
        Label.ROLE.value: Role.SCHEDULER.value,
    }
    assert service["publishNotReadyAddresses"] is True
    assert [port["port"] for port in service["ports"]] == [8786, 8787]


def test_the_secret_holds_the_job_as_it_is():
    attempt = attempt_of(FULL)
    request = secret_request(attempt, "service-uid")
    assert TrainingJob.from_body(json.loads(request.data["job.json"])) == attempt.job
    assert request.data["token"].decode() == scheduler_token(b"k" * 32, UID, 1) != scheduler_token(b"k" * 32, UID, 2)
    assert request.lifetime_seconds == 86400 + 3600
    secret = request.manifest(make_certificates("job", request.roles, lifetime_seconds=60))
    assert set(secret["data"]) == {"ca.pem", "scheduler.pem", "worker.pem", "client.pem", "job.json", "token"}
    assert b"PRIVATE KEY" not in base64.b64decode(secret["data"]["ca.pem"])
    assert b"PRIVATE KEY" in base64.b64decode(secret["data"]["worker.pem"])
    assert "PRIVATE" not in repr(request)


def test_a_reader_is_no_pod_of_the_operators():
    pod = reader_pod(attempt_of(FULL).job, name="reader", image="ours:1", token="secret", uid=UID)
    kubernetes_validate.validate(pod, VERSION, strict=True)
    assert Label.JOB_UID.value not in pod["metadata"]["labels"]
    assert pod["spec"]["activeDeadlineSeconds"] == 600
    assert variables(pod)["DASK_TRAINING_READER_TOKEN"] == "secret"
    assert "/etc/dask-training-store" in mounts(pod)
    assert "/etc/dask-training" not in mounts(pod)
