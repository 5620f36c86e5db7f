"""From dask-kubernetes' DaskJob and DaskCluster to a DaskTrainingJob: pure, tables wherever it is a matter of names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from dask_training.api import API_VERSION, KIND
from dask_training.cli.leftovers import Node
from dask_training.cli.scaffold import job_name

Body: TypeAlias = dict[str, Any]

PEER: Final = "kubernetes.dask.org/v1"
# Dask's own images have no dask-training in them.
_DASK_IMAGE: Final = re.compile(r"(^|/)(daskdev|dask)/dask(-notebook)?([:@]|$)")
# Of a pod's spec, what a job has once for all of its pods.
_SHARED: Final = (
    "serviceAccountName",
    "priorityClassName",
    "nodeSelector",
    "tolerations",
    "affinity",
    "imagePullSecrets",
)
_VOLUMES: Final = ("configMap", "secret", "emptyDir", "persistentVolumeClaim")
_MOUNT: Final = ("name", "mountPath", "subPath", "readOnly")
_SOURCES: Final = ("configMapKeyRef", "secretKeyRef", "fieldRef")
# Options of `dask worker` and `dask scheduler` that a job's own pods need not be told; a value follows those with "=".
_NEEDLESS: Final = {
    *(
        "--name=",
        "--dashboard",
        "--no-dashboard",
        "--dashboard-address=",
        "--nanny",
        "--no-nanny",
        "--host=",
        "--port=",
    ),
    *("--listen-address=", "--contact-address=", "--worker-port=", "--local-directory=", "--death-timeout="),
}
_SILENT: Final = (
    r"spec\..*\.containers\[0\]\.(name|ports|readinessProbe|livenessProbe|startupProbe)\b",
    r"spec(\.cluster\.spec)?\.scheduler\.service\.(ports|selector)\b",
    r"metadata\.(uid|resourceVersion|generation|creationTimestamp|managedFields|selfLink|finalizers|ownerReferences)\b",
    r"metadata\.annotations\.kubectl\.kubernetes\.io/",
    r"status\b",
)
# The first that matches says why a field is not carried over, and what to do.
_REASONS: Final = (
    (r"\.idleTimeout$", "a Batch job's cluster goes as soon as its code has ended"),
    (
        r"\.scheduler\.service\b",
        "the scheduler's Service is inside the cluster alone: kubectl port-forward opens its dashboard",
    ),
    (r"\.initContainers\b", "there are none: put the work into the image, or into the script's first lines"),
    (r"\.containers\[[1-9]", "a pod has one container: run the sidecar apart, or leave it out"),
    (r"\.restartPolicy$", "code is never run twice in one attempt: spec.backoffLimit gives the job more attempts"),
    (r"\.securityContext\b", "pods keep to the Pod Security Standard 'restricted', as user 1000"),
    (r"\.(terminationGracePeriodSeconds|lifecycle|preStop|postStart)\b", "the operator ends pods in its own order"),
    (
        r"\.workingDir$",
        "the code runs in an empty folder of its own: use absolute paths, or os.environ['ARTIFACTS_DIR']",
    ),
    (
        r"\.(metadata)\.(labels|annotations)\b",
        "labels of the job itself (metadata.labels) are put on all of its objects",
    ),
    (r"\.automountServiceAccountToken$", "pods get no token of their service account"),
    (r"\.valueFrom\.resourceFieldRef\b", "write the value itself"),
    (r"\.volumes\[", "volumes are of a configMap, a secret, an emptyDir or a persistentVolumeClaim"),
    (r"\.volumeMounts\[", "mounts have name, mountPath, subPath and readOnly"),
)
_NO_COUNTERPART: Final = "a DaskTrainingJob has nothing like it"


@dataclass(frozen=True)
class Note:
    """What was not carried over: the field of the original, why, and what to do instead."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass
class Converted:
    """A job's body, and what of the original is not in it."""

    kind: str
    name: str
    body: Body
    notes: list[Note] = field(default_factory=list)


class _Job:
    """A DaskTrainingJob's spec in the making."""

    def __init__(self) -> None:
        self.spec: Body = {}
        self.notes: list[Note] = []

    def note(self, path: str, why: str) -> None:
        self.notes.append(Note(path, why))

    def share(self, key: str, value: Any, path: str) -> None:
        """A field that all pods have in common; the first that is given counts."""
        if value in (None, "", {}, []):
            return
        known = self.spec.setdefault(key, value)
        if known != value:
            self.note(path, f"all pods of a job have the same: spec.{key} is {known!r}")

    def pod(self, pod: Node) -> tuple[Node, Body]:
        """Takes what any pod has; gives its container, and what of it stays with that kind of pod."""
        for key in _SHARED:
            self.share(key, pod.take(key), f"{pod.path}.{key}")
        for volume in pod.nodes("volumes"):
            self._volume(volume)
        containers = pod.nodes("containers")
        container = containers[0] if containers else Node({}, f"{pod.path}.containers[0]")
        self._image(container)
        self.share("imagePullPolicy", container.take("imagePullPolicy"), f"{container.path}.imagePullPolicy")
        if sources := container.take("envFrom"):
            self.spec["envFrom"] = [
                *self.spec.get("envFrom", ()),
                *(s for s in sources if s not in self.spec.get("envFrom", ())),
            ]
        own: Body = {}
        if resources := container.take("resources"):
            own["resources"] = {key: resources[key] for key in ("requests", "limits") if resources.get(key)}
            for key in resources.keys() - {"requests", "limits"}:
                self.note(f"{container.path}.resources.{key}", _NO_COUNTERPART)
        mounts = [self._some(mount, _MOUNT) for mount in container.nodes("volumeMounts")]
        return container, own | ({"volumeMounts": mounts} if mounts else {})

    def environment(self, container: Node) -> list[Body]:
        """A container's variables, without those that mean something else here."""
        found = []
        for variable in container.nodes("env"):
            name, value = variable.take("name"), variable.take("value")
            if name in ("EXTRA_PIP_PACKAGES", "EXTRA_CONDA_PACKAGES") and value:
                self._packages(name, str(value), variable.path)
                continue
            source = variable.node("valueFrom")
            known = {key: source.take(key) for key in _SOURCES if key in source}
            if known:
                found.append({"name": name, "valueFrom": known})
            elif not list(source.leftovers()):
                found.append({"name": name, "value": "" if value is None else str(value)})
        return found

    def for_all(self, variables: Iterable[Body], path: str) -> None:
        """Variables that all pods get."""
        for variable in variables:
            known = next((each for each in self.spec.get("env", ()) if each["name"] == variable["name"]), None)
            if known is None:
                self.spec.setdefault("env", []).append(variable)
            elif known != variable:
                self.note(
                    f"{path}.env", f"{variable['name']} has another value in another pod: spec.env holds the first"
                )

    def _image(self, container: Node) -> None:
        image = container.take("image")
        if not image:
            return
        if _DASK_IMAGE.search(image):
            text = (
                f"{image} has no dask-training in it: the operator's runtime image is used (spec.image, spec.packages)"
            )
            if all(note.why != text for note in self.notes):
                self.note(f"{container.path}.image", text)
            return
        self.share("image", image, f"{container.path}.image")

    def _packages(self, name: str, value: str, path: str) -> None:
        if name == "EXTRA_CONDA_PACKAGES":
            self.note(path, f"{name}={value}: packages come from pip: name them in spec.packages")
            return
        try:
            words = shlex.split(value)
        except ValueError:
            words = value.split()
        packages = [word for word in words if not word.startswith("-")]
        if len(packages) != len(words):
            self.note(path, f"{name}: options of pip are not taken: {' '.join(w for w in words if w.startswith('-'))}")
        self.spec["packages"] = list(dict.fromkeys([*self.spec.get("packages", ()), *packages]))

    def _volume(self, volume: Node) -> None:
        name = volume.take("name")
        source = {key: volume.take(key) for key in _VOLUMES if key in volume}
        if not source:
            return
        known = self.spec.setdefault("volumes", [])
        same = next((each for each in known if each["name"] == name), None)
        if same is None:
            known.append({"name": name, **source})
        elif same != {"name": name, **source}:
            self.note(volume.path, f"another pod has another volume {name!r}: rename one of them")

    @staticmethod
    def _some(node: Node, keys: Iterable[str]) -> Body:
        return {key: node.take(key) for key in keys if key in node}


def convert(document: Mapping[str, Any], autoscalers: Mapping[str, Mapping[str, Any]]) -> Converted:
    """The job for a DaskJob (mode Batch) or a DaskCluster (mode Session).

    `autoscalers` are the specs of the file's DaskAutoscalers by their cluster's name.
    """
    root = Node(document)
    kind = root.take("kind")
    root.take("apiVersion")
    metadata, spec, job = root.node("metadata"), root.node("spec"), _Job()
    given = str(metadata.take("name") or "job")
    name = job_name(given)
    if name != given:
        job.note("metadata.name", f"{given!r} is no name for a job: it is called {name!r}")
    kept = {key: metadata.take(key) for key in ("namespace", "labels") if key in metadata}
    if kind == "DaskJob":
        _batch(job, spec)
    else:
        _session(job, spec, autoscalers.get(given))
    job.notes += [Note(path, _why(path)) for path in root.leftovers() if not _matches(path, _SILENT)]
    ordered = {key: job.spec[key] for key in _ORDER if key in job.spec}
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name, **kept}, "spec": ordered}
    return Converted(str(kind), given, body, job.notes)


_ORDER: Final = (
    *("mode", "image", "imagePullPolicy", "imagePullSecrets", "packages", "env", "envFrom", "volumes", *_SHARED[:-1]),
    *("runner", "scheduler", "workers", "activeDeadlineSeconds", "idleTimeoutSeconds"),
)


def _batch(job: _Job, spec: Node) -> None:
    pod = spec.node("job").node("spec")
    deadline, restart = pod.take("activeDeadlineSeconds"), pod.take("restartPolicy")
    if deadline:
        job.spec["activeDeadlineSeconds"] = deadline
    if restart != "Never":
        said = restart or "OnFailure, dask-kubernetes' default,"
        text = f"{said} runs failed code again for ever: here that fails the job; spec.backoffLimit gives more attempts"
        job.note(f"{pod.path}.restartPolicy", text)
    container, own = job.pod(pod)
    variables = job.environment(container)
    code = _code([*(container.take("command") or ()), *(container.take("args") or ())])
    if not code:
        job.note(container.path, "neither command nor args: name the code in spec.runner")
        code = {"command": ["python"]}
    _cluster(job, spec.node("cluster").node("spec"))
    shared = [each for each in variables if each in job.spec.get("env", ())]
    mine = [each for each in variables if each not in shared]
    job.spec["runner"] = {**code, **({"env": mine} if mine else {}), **own}


def _session(job: _Job, spec: Node, autoscaler: Mapping[str, Any] | None) -> None:
    job.spec["mode"] = "Session"
    seconds = spec.take("idleTimeout")
    if seconds:
        job.spec["idleTimeoutSeconds"] = max(10, int(seconds))
    else:
        job.note(
            "spec.idleTimeout", "is 0, for ever: a Session ends after spec.idleTimeoutSeconds without a task (20 min)"
        )
    _cluster(job, spec)
    if autoscaler is None:
        return
    workers, least, most = job.spec["workers"], autoscaler.get("minimum"), autoscaler.get("maximum")
    if most:
        workers["maxReplicas"] = int(most)
        workers["replicas"] = min(int(workers.get("replicas", 1)), int(most))
    if least is not None:
        workers["minReplicas"] = max(1, int(least))
        workers["replicas"] = max(int(workers.get("replicas", 1)), workers["minReplicas"])
        if int(least) < 1:
            job.note("DaskAutoscaler spec.minimum", "must be at least 1: a job keeps one worker")


def _cluster(job: _Job, spec: Node) -> None:
    worker, scheduler = spec.node("worker"), spec.node("scheduler")
    replicas = worker.take("replicas", 1)
    container, own = job.pod(worker.node("spec"))
    job.for_all(job.environment(container), container.path)
    workers = {"replicas": max(1, int(replicas)), **own}
    if int(replicas) < 1:
        job.note(f"{worker.path}.replicas", "is 0: a job has at least one worker")
    for option, value in _options(job, container):
        if option == "--nthreads" and value.isdigit() and int(value) > 0:
            workers["threads"] = int(value)
        elif option == "--memory-limit":
            if "memory" not in own.get("resources", {}).get("limits", {}):
                text = f"--memory-limit {value}: it is the container's: set spec.workers.resources.limits.memory"
                job.note(f"{container.path}.args", text)
        else:
            job.note(f"{container.path}.args", f"{option} {value}".strip() + ": a job's workers take no such option")
    job.spec["workers"] = workers
    container, own = job.pod(scheduler.node("spec"))
    job.for_all(job.environment(container), container.path)
    for option, value in _options(job, container):
        job.note(f"{container.path}.args", f"{option} {value}".strip() + ": a job's scheduler takes no such option")
    kind = scheduler.node("service").take("type", "ClusterIP")
    if kind != "ClusterIP":
        job.note(f"{scheduler.path}.service.type", f"{kind}: {_why('.scheduler.service')}")
    if own.get("volumeMounts"):
        job.note(f"{container.path}.volumeMounts", "a job's scheduler mounts nothing")
    if own.get("resources"):
        job.spec["scheduler"] = {"resources": own["resources"]}


def _options(job: _Job, container: Node) -> list[tuple[str, str]]:
    """The options of a `dask worker` or `dask scheduler` that mean something; "" for the value of a flag."""
    words = [str(word) for word in (*(container.take("command") or ()), *(container.take("args") or ()))]
    found: list[tuple[str, str]] = []
    rest = iter(_after_command(words))
    waiting = None
    for word in rest:
        if word.startswith("--"):
            name, given, value = word.partition("=")
            found.append((name, value))
            waiting = None if given else len(found) - 1
        elif waiting is not None:
            found[waiting] = (found[waiting][0], word)
            waiting = None
        else:
            job.note(f"{container.path}.args", f"{word}: the job's pods run a program of their own")
    return [(name, value) for name, value in found if name not in _NEEDLESS and f"{name}=" not in _NEEDLESS]


def _after_command(words: list[str]) -> list[str]:
    for start in (["dask", "worker"], ["dask", "scheduler"], ["dask-worker"], ["dask-scheduler"]):
        if words[: len(start)] == start:
            return words[len(start) :]
    return words


def _code(words: list[Any]) -> Body:
    """What of spec.runner a command line is: a script, a module, or the command itself."""
    said = [str(word) for word in words]
    python = bool(said) and re.fullmatch(r"(.*/)?python(3(\.\d+)?)?", said[0]) is not None
    if python and len(said) >= 3 and said[1] in ("-c", "-m"):
        found: Body = {"script": said[2]} if said[1] == "-c" else {"module": said[2]}
        return found | ({"args": said[3:]} if said[3:] else {})
    return {"command": said} if said else {}


def _why(path: str) -> str:
    return next((why for pattern, why in _REASONS if re.search(pattern, path)), _NO_COUNTERPART)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(re.match(pattern, path) for pattern in patterns)
