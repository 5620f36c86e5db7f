"""A cluster in memory: an API server that can fail at any request, kubelets whose pods do as they are told, a clock."""

from __future__ import annotations

import copy
import datetime
import functools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import jsonschema
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dask_training.api import Label
from dask_training.certificates import make_certificates
from dask_training.cluster_ref import ReferencedCluster
from dask_training.manifests import session_status
from dask_training.model import TrainingJob
from dask_training.model.schema import crd
from dask_training.observed import Observed
from dask_training.reconcile import Delete, SecretRequest, WriteStatus, plan, stages
from dask_training.refusal import Refusal
from dask_training.settings import OperatorSettings
from dask_training.telemetry import Telemetry

START = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
STATUS = jsonschema.Draft202012Validator(
    crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
)
SETTINGS = OperatorSettings(key=b"0123456789abcdef", store_endpoint="http://store:7070", max_workers=50)


@functools.cache  # stories write the same again and again
def check_status(text):
    """Fails unless the CRD takes this status."""
    STATUS.validate(json.loads(text))


def parsed(body):
    """The job; to parse it takes longer than to plan, and most plans are for the same one."""
    return _parsed(json.dumps({key: body[key] for key in ("metadata", "spec")}))


@functools.cache
def _parsed(text):
    return TrainingJob.from_body(json.loads(text))


@functools.cache
def certificates(roles):
    """Made once: they take a while, and nothing here looks at them."""
    return make_certificates("job", roles, lifetime_seconds=60)


class ApiError(Exception):
    """A request did not go as it should; whether it was carried out is not known."""


@dataclass
class Fault:
    """What befalls request number `at`: done or not, an error or the operator's own end (`killed`)."""

    at: int
    done: bool = True
    killed: bool = False


@dataclass
class FakeCluster:
    """`body` is the job as the API server has it; `objects` all else, by kind and name."""

    body: dict
    settings: OperatorSettings = SETTINGS
    gone: list = field(default_factory=list)
    fault: Fault | None = None
    now: datetime.datetime = START
    objects: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    events: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    refuse: Callable[[dict], tuple[int, str] | None] = lambda _: None
    refusals: dict = field(default_factory=dict)
    pod_events: list = field(default_factory=list)
    check_after: float | None = None
    telemetry: Telemetry | None = None
    owner_gone: str = ""
    host: dict | None = field(default_factory=lambda: host_service())  # noqa: PLW0108 - defined below
    """The Service of the cluster that the job names in clusterRef, if it does; None: there is none."""
    host_workers: int = 2

    def __post_init__(self):
        self.body.setdefault("apiVersion", "dask-training.io/v1alpha1")
        self.body.setdefault("kind", "DaskTrainingJob")
        metadata = {"namespace": "ml", "uid": str(uuid.UUID(int=1)), "generation": 1}
        self.body["metadata"] = metadata | {"creationTimestamp": self.stamp()} | self.body["metadata"]

    # The operator.

    def plan(self, **observed):
        before = msgspec.json.encode([self.body, self.pods()])
        observed = self.as_guest() | observed
        seen = Observed.of(
            self.body,
            pods=self.pods(),
            services=[each for (kind, _), each in self.objects.items() if kind == "Service"],
            events=self.pod_events,
            problems=tuple(self.refusals.values()),
            gone=self.gone,
            **{"telemetry": self.telemetry, "owner_gone": self.owner_gone, **observed},
        )
        made = plan(parsed(self.body), self.body.get("status"), seen, self.now, self.settings)
        assert msgspec.json.encode([self.body, self.pods()]) == before, "the plan has changed its arguments"
        return made

    def as_guest(self):
        """What is seen of a cluster that is not the job's own: its Service, and what the runner says of its workers."""
        if "clusterRef" not in self.body["spec"]:
            return {}
        runner = self.pod("runner")
        runs = runner is not None and runner["status"]["phase"] == "Running" and self.host is not None
        telemetry = Telemetry(workers=self.host_workers) if runs else None
        return {"cluster": ReferencedCluster.of("shared", "ml", self.host), "telemetry": telemetry}

    def reconcile(self):
        """Plans and acts until there is nothing to do; begins again after an error, as the operator would."""
        for _ in range(30):
            todo = self.plan()
            self.check_after = todo.check_after
            if todo.is_empty:
                return self
            try:
                self.execute(todo)
            except ApiError:
                continue
        raise AssertionError(f"no end in sight: {todo}")

    def execute(self, todo):
        for group in stages(todo):
            errors = []
            for action in group:
                try:
                    self._request(action)
                except ApiError as error:
                    if self.fault is not None and self.fault.killed:
                        raise
                    errors.append(error)
            if errors:
                raise errors[0]

    def _request(self, action):
        for apply in self._requests(action):
            number = len(self.requests)
            self.requests.append(action)
            faulty = self.fault is not None and self.fault.at == number
            if not faulty or self.fault.done:
                apply()
            if faulty:
                raise ApiError(number)

    def _requests(self, action):
        match action:
            case WriteStatus():
                yield lambda: self._write(action)
            case Delete():
                yield lambda: self._delete(action)
            case SecretRequest() if action.signing_request:
                made = action.certificates()
                yield lambda: self._create(action.manifest(made), asked=action.name)
                if ("Secret", action.name) not in self.refusals:
                    yield lambda: self._write(WriteStatus(self.status | {"session": session_status(made)}))
            case SecretRequest():
                yield lambda: self._create(action.manifest(certificates(action.roles)))
            case dict():
                yield lambda: self._create(action)

    def _write(self, action):
        text = json.dumps(action.status)
        old, new = self.body.get("status") or {}, json.loads(text)
        check_status(text)
        assert len(text) <= 16_384
        assert new.get("attempt", 0) >= old.get("attempt", 0)
        if old.get("phase") in ("Succeeded", "Failed"):
            assert new["phase"] == old["phase"], "a final phase was changed"
        self.body["status"] = new
        self.statuses.append(new)
        self.events += action.events

    def _create(self, manifest, asked=None):
        key = (manifest["kind"], manifest["metadata"]["name"])
        place = (key[0], asked or key[1])
        if refusal := self.refuse(manifest):
            code, message = refusal
            known = self.refusals.get(place)
            count, since = (known.count + 1, known.since) if known else (1, self.now)
            self.refusals[place] = Refusal(*place, code, "Forbidden", message, since, self.now, count)
            return
        self.refusals.pop(place, None)
        labels = manifest["metadata"]["labels"]
        if key in self.objects:
            assert self.objects[key]["metadata"]["ownerReferences"] == manifest["metadata"]["ownerReferences"]
            return
        status = self.body["status"]
        assert int(labels[Label.ATTEMPT]) == status["attempt"], "made before its attempt was written"
        assert not any(each["number"] == status["attempt"] for each in status.get("attempts", ())), "made after the end"
        made = copy.deepcopy(manifest)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.stamp()}
        if manifest["kind"] == "Service":
            made["spec"]["clusterIP"] = "10.96.0.7"
        if manifest["kind"] == "Pod":
            made["status"] = {"phase": "Pending"}
        self.objects[key] = made

    def _delete(self, action):
        if action.kind == "DaskTrainingJob":
            assert action.uid == self.body["metadata"]["uid"]
            self.body["metadata"]["deletionTimestamp"] = self.stamp()
            self.objects.clear()
            return
        for key, each in list(self.objects.items()):
            metadata = each["metadata"]
            named = action.name and key == (action.kind, action.name) and metadata["uid"] == action.uid
            labels = metadata.get("labels", {})
            labelled = action.labels and key[0] == action.kind and action.labels.items() <= labels.items()
            if named or labelled:
                self._end(key, action.grace)

    def _end(self, key, grace=None):
        each = self.objects[key]
        if key[0] == "Service":
            uid = self.objects.pop(key)["metadata"]["uid"]
            owned = [k for k, o in self.objects.items() if o["metadata"]["ownerReferences"][0]["uid"] == uid]
            for one in owned:
                del self.objects[one]
            return
        if grace == 0:
            del self.objects[key]
            return
        grace = each["spec"]["terminationGracePeriodSeconds"] if grace is None else grace
        known = each["metadata"].get("deletionGracePeriodSeconds")
        if known is None or grace < known:
            each["metadata"]["deletionGracePeriodSeconds"] = grace
            each["metadata"]["deletionTimestamp"] = self.stamp(grace)

    # Kubernetes and the world.

    def stamp(self, later=0):
        return (self.now + datetime.timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def pass_time(self, seconds):
        self.now += datetime.timedelta(seconds=seconds)
        return self

    def pods(self, role=None):
        pods = [each for (kind, _), each in self.objects.items() if kind == "Pod"]
        return [pod for pod in pods if role in (None, pod["metadata"]["labels"][Label.ROLE])]

    def pod(self, role, index=None):
        found = [
            pod
            for pod in self.pods(role)
            if "deletionTimestamp" not in pod["metadata"]
            and pod["metadata"]["labels"].get(Label.INDEX) == (None if index is None else str(index))
        ]
        return found[0] if found else None

    def start(self, *roles):
        """Kubelets start what is pending."""
        for pod in self.pods():
            role = pod["metadata"]["labels"][Label.ROLE]
            pending = pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]
            if pending and (not roles or role in roles):
                self.set_state(pod, "Running", {"running": {"startedAt": self.stamp()}})
        return self

    def set_state(self, pod, phase, state, **more):
        container = {"name": "x", "state": state, **more}
        started = pod["status"].get("startTime", self.stamp())
        pod["status"] = {"phase": phase, "startTime": started, "containerStatuses": [container]}

    def waiting(self, pod, reason, message=""):
        self.set_state(pod, "Pending", {"waiting": {"reason": reason, "message": message}})

    def end(self, pod, code=0, message="", reason="", conditions=()):
        """A container ends."""
        if pod is None:
            return self
        started = pod["status"].get("startTime", self.stamp())
        ended = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"), "message": message}
        ended |= {"startedAt": started, "finishedAt": self.stamp()}
        self.set_state(pod, "Failed" if code else "Succeeded", {"terminated": ended})
        pod["status"]["conditions"] = list(conditions)
        return self

    def kubectl_delete_pod(self, pod):
        if pod is not None:
            self._end(("Pod", pod["metadata"]["name"]))
        return self

    def vanish(self):
        """What is being deleted is gone."""
        for key, each in list(self.objects.items()):
            if "deletionTimestamp" in each["metadata"]:
                del self.objects[key]
                if key[0] == "Pod":
                    self.gone.append((each, self.now))
        return self

    def edit(self, **spec):
        for key, value in spec.items():
            old = self.body["spec"].get(key)
            self.body["spec"][key] = {**old, **value} if isinstance(old, dict) else value
        self.body["metadata"]["generation"] += 1
        return self

    # What is asked in tests.

    @property
    def status(self):
        return self.body.get("status") or {}

    def condition(self, kind):
        return next((each for each in self.status.get("conditions", ()) if each["type"] == kind), None)

    def holds(self, kind):
        found = self.condition(kind)
        return found is not None and found["status"] == "True"

    def said(self, **changes):
        """A runner's termination message."""
        said = {"version": 1, "reason": "Completed", "message": "the code ran to its end", "succeeded": True}
        said |= {"exitCode": 0, "scriptExitCode": 0, "metrics": {"accuracy": 0.9}, "workerRestarts": 0, "tasks": 3}
        stored = {"url": "s3://artifacts-ml/ml/job/u/1", "files": 4, "bytes": 99, "manifestSHA256": "a" * 64}
        return json.dumps(said | {"artifacts": stored} | changes)

    def succeed(self):
        return self.end(self.pod("runner"), 0, self.said())

    def fail(self, code=3, reason="RunnerFailed", message="ValueError: no, line 3 of spec.runner.script"):
        text = self.said(reason=reason, message=message, succeeded=False, exitCode=code, scriptExitCode=code)
        return self.end(self.pod("runner"), code, text)

    def running(self):
        """As far as a job that runs."""
        return self.reconcile().pass_time(1).start().reconcile()


def host_service(ip="10.96.0.99"):
    """As dask-kubernetes makes it for DaskCluster shared."""
    owner = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "name": "shared", "uid": "dk-1"}
    ports = [{"name": "tcp-comm", "port": 8786}, {"name": "http-dashboard", "port": 8787}]
    metadata = {"name": "shared-scheduler", "namespace": "ml", "uid": f"of-{ip}", "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": {"clusterIP": ip, "ports": ports}}


def job_body(**spec):
    if spec.get("mode") != "Session":
        spec = {"runner": {"script": "import sklearn\nprint(1)"}, **spec}
    return {"metadata": {"name": "job"}, "spec": spec}


@pytest.fixture
def cluster():
    """Makes a cluster with a job of this spec; `settings`, `fault` and others as FakeCluster has them."""

    def make(*, fault=None, settings=SETTINGS, **spec):
        return FakeCluster(job_body(**spec), fault=fault, settings=settings)

    return make


@functools.cache
def signing_request():
    """A client's; its key does not matter here."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def session_spec():
    """Spec of a Session with a client's signing request; `session` has what else stands there."""

    def make(session=(), **spec):
        return {"mode": "Session", "session": {"certificateSigningRequest": signing_request(), **dict(session)}, **spec}

    return make


@pytest.fixture
def host():
    """Makes the Service of a DaskCluster's scheduler, with this ClusterIP."""
    return host_service


@pytest.fixture
def fault():
    return Fault


@pytest.fixture
def operator_settings():
    return SETTINGS
