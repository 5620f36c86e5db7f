"""Job files: several documents, what they need, and what a run on this machine makes of them."""

from __future__ import annotations

import base64
import textwrap

import pytest

from dask_training.model import JobFileError, Problem, load_job_file

NEEDS = "it needs 'apiVersion: dask-training.io/v1alpha1' and 'kind: DaskTrainingJob'"
REFUSED = "invalid non-printable character U+001B"
SCRIPT_NAME = "spec.runner.scriptFrom.configMap.name"
OTHER = "lib"
HERE = "on this machine it must be a document of the job file"
JOB = """\
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata: {name: flights}
spec: {runner: {script: print(1)}}
"""
SCRIPT_FROM = """\
apiVersion: dask-training.io/v1alpha1
kind: DaskTrainingJob
metadata: {name: flights}
spec:
  code: {configMap: {name: my-code}}
  runner:
    scriptFrom: {configMap: {name: scripts, key: train.py}}
"""
CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: scripts}
data:
  train.py: |
    import os
    print(os.getpid())
"""


def load(*documents, source="job.yaml"):
    return load_job_file("---\n".join(textwrap.dedent(document) for document in documents), source=source)


def problems(*documents, source="job.yaml"):
    with pytest.raises(JobFileError) as caught:
        load(*documents, source=source)
    return str(caught.value).splitlines()


def with_spec(spec):
    return JOB.partition("spec:")[0] + "spec:\n" + textwrap.indent(textwrap.dedent(spec), "  ")


# ---- reading


def test_a_job_has_its_names_and_all_defaults():
    job = load(JOB).job()
    assert (job.name, job.namespace, job.metadata.uid) == ("flights", "default", "")
    assert (job.spec.mode, job.spec.workers.replicas, job.spec.workers.min_replicas) == ("Batch", 2, 1)
    assert (job.spec.workers.nthreads, job.spec.workers.is_adaptive) == (1, False)
    assert (job.spec.runner.joblib.backend, job.spec.artifacts.size_limit_bytes) == ("dask", 5 * 1024**3)


@pytest.mark.parametrize(
    ("workers", "nthreads"),
    [
        ("{}", 1),
        ("{threads: 3}", 3),
        ("{resources: {requests: {cpu: 1500m}}}", 2),
        ("{resources: {requests: {cpu: 250m}}}", 1),
        ("{resources: {limits: {cpu: 4}}}", 4),
        ("{threads: 1, resources: {requests: {cpu: 4}}}", 1),
    ],
)
def test_threads_follow_the_cpu_request(workers, nthreads):
    assert load(with_spec(f"runner: {{module: m}}\nworkers: {workers}")).job().spec.workers.nthreads == nthreads


def test_resources_are_numbers():
    resources = (
        load(with_spec("runner: {module: m}\nworkers: {resources: {requests: {cpu: 500m}, limits: {memory: 2Gi}}}"))
        .job()
        .spec.workers.resources
    )
    assert (resources.cpu_request, resources.memory_limit_bytes) == (0.5, 2 * 1024**3)
    none = load(JOB).job().spec.workers.resources
    assert (none.cpu_request, none.memory_limit_bytes) == (None, None)


@pytest.mark.parametrize(
    ("workers", "adaptive"),
    [("maxReplicas: 4", True), ("maxReplicas: 4, adaptive: false", False), ("minReplicas: 2, maxReplicas: 2", False)],
)
def test_a_job_is_adaptive_with_room_between_min_and_max(workers, adaptive):
    assert load(with_spec(f"runner: {{module: m}}\nworkers: {{{workers}}}")).job().spec.workers.is_adaptive is adaptive


def test_all_documents_of_a_file_are_read():
    secret = {"plain": "one", "coded": base64.b64encode(b"two").decode()}
    file = load(
        JOB,
        CONFIG_MAP,
        "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"
        f"stringData: {{a: {secret['plain']}}}\ndata: {{b: {secret['coded']}}}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
        JOB.replace("flights", "second"),
    )
    assert [job.name for job in file.jobs] == ["flights", "second"]
    assert file.config_maps == {"scripts": {"train.py": "import os\nprint(os.getpid())\n"}}
    assert file.secrets == {"keys": {"a": "one", "b": "two"}}
    assert file.other_kinds == ("Service/web",)


def test_a_secret_is_not_shown():
    file = load(JOB, "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {a: hidden}\n")
    assert "hidden" not in repr(file)
    said = problems(
        JOB, "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {a: 4711}\ndata: {b: hidden}\n"
    )
    assert said == [
        "job.yaml:9: stringData.a: must be text: put it in quotes",
        "job.yaml:10: data.b: must be text in base64; plain text goes into stringData",
    ]


def test_one_of_several_jobs_is_chosen_by_its_name():
    file = load(JOB, JOB.replace("flights", "second"))
    assert file.job("second").name == "second"
    with pytest.raises(JobFileError, match=r"^job.yaml: holds several jobs: flights, second; name the one to take$"):
        file.job()
    with pytest.raises(JobFileError, match=r"^job.yaml: holds no job 'third'; it has: flights, second$"):
        file.job("third")


# ---- what is no job


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n---\n"])
def test_an_empty_file_says_what_it_needs(text):
    assert problems(text) == [f"job.yaml: is empty: {NEEDS}"]


@pytest.mark.parametrize(("text", "got"), [("just text", "'just text'"), ("- a\n- b", "a list"), ("42", "42")])
def test_what_is_no_mapping_says_what_it_needs(text, got):
    assert problems(text) == [f"job.yaml:1: a document must be a mapping, got {got}: {NEEDS}"]


def test_a_python_script_is_no_job_file():
    assert problems("import os\n", source="train.py") == [
        "train.py: is a Python script, not a job file: `dask-training init train.py` writes one for it"
    ]


def test_a_file_without_a_job_names_what_it_found():
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    cluster = "apiVersion: kubernetes.dask.org/v1\nkind: DaskJob\nmetadata: {name: old}\n"
    assert problems(deployment, cluster, CONFIG_MAP) == [
        f"job.yaml: holds no DaskTrainingJob: {NEEDS}; found: Deployment/web, DaskJob/old, ConfigMap/scripts"
    ]


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        (
            "dask-training.io/v1alpha1",
            "DaskTrainingjob",
            ["job.yaml:2: kind: must be DaskTrainingJob, got 'DaskTrainingjob'"],
        ),
        ("dask-training.io/v1alpha1", "Job", ["job.yaml:2: kind: must be DaskTrainingJob, got 'Job'"]),
        (
            "dask-training.io/v1",
            "DaskTrainingJob",
            ["job.yaml:1: apiVersion: must be dask-training.io/v1alpha1, got 'dask-training.io/v1'"],
        ),
        (
            "v1",
            "DaskTrainJobs",
            None,
        ),
        (
            "batch/v1",
            "DaskTrainingJobs",
            [
                "job.yaml:1: apiVersion: must be dask-training.io/v1alpha1, got 'batch/v1'",
                "job.yaml:2: kind: must be DaskTrainingJob, got 'DaskTrainingJobs'",
            ],
        ),
    ],
)
def test_a_wrong_kind_or_version_names_the_right_one(version, kind, expected):
    said = problems(JOB.replace("dask-training.io/v1alpha1", version).replace("DaskTrainingJob", kind))
    assert said == expected if expected else said[0].startswith("job.yaml: holds no DaskTrainingJob")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("", "is required: DaskTrainingJob"),
        ("[a]", "must be DaskTrainingJob, got a list"),
        ("5", "must be DaskTrainingJob, got 5"),
    ],
)
def test_a_document_without_a_kind_is_an_error(kind, message):
    assert problems(JOB, f"kind: {kind}\n") == [f"job.yaml:6: kind: {message}"]


def test_problems_of_all_documents_come_at_once_in_the_order_of_the_file():
    said = problems(
        JOB.replace("script: print(1)", "module: a b"),
        JOB.replace("flights", "Second"),
        "apiVersion: v1\nkind: ConfigMap\n",
    )
    assert [line.split(": ")[:2] for line in said] == [
        ["job.yaml:4", "spec.runner.module"],
        ["job.yaml:8", "metadata.name"],
        ["job.yaml:11", "metadata.name"],
    ]


def test_two_jobs_of_one_name_are_an_error():
    assert problems(JOB, JOB) == ["job.yaml:8: metadata.name: there is another job 'flights' on line 3"]


def test_two_config_maps_of_one_name_are_an_error():
    assert problems(JOB, CONFIG_MAP, CONFIG_MAP) == [
        "job.yaml:16: metadata.name: there is another ConfigMap 'scripts' in this file"
    ]


# ---- scripts


def test_a_script_that_does_not_parse_names_its_line_in_the_file():
    job = with_spec(
        """\
        runner:
          script: |
            import os

            if True
              print(os)
        """
    )
    assert problems(job) == [
        "job.yaml:9: spec.runner.script: line 3 of the script is not Python: expected ':': if True"
    ]


def test_a_script_in_one_line_names_the_line_of_its_field():
    assert problems(JOB.replace("print(1)", '"x = 1\\ny =\\n"')) == [
        "job.yaml:4: spec.runner.script: line 2 of the script is not Python: invalid syntax: y ="
    ]


def test_a_doubtful_escape_in_a_script_is_no_problem():
    assert load(JOB.replace("print(1)", "\"print('\\\\d')\"")).job().spec.runner.script == "print('\\d')"


def test_a_script_in_a_config_map_is_parsed_too():
    assert problems(SCRIPT_FROM, CONFIG_MAP.replace("import os", "import os,")) == [
        "job.yaml:14: data.train.py: line 1 of the script is not Python: invalid syntax: import os,"
    ]


# ---- on this machine


def missing(*documents, environ=None):
    file = load(*documents)
    return [str(problem) for problem in file.check_local(file.job(), environ or {})]


CODE = CONFIG_MAP.replace("scripts", "my-code").replace("train.py", "lib.py")


def test_a_run_on_this_machine_finds_scripts_and_code_in_the_file():
    assert missing(SCRIPT_FROM, CONFIG_MAP, CODE) == []


def test_a_missing_config_map_names_those_that_there_are():
    assert missing(SCRIPT_FROM, CODE.replace("my-code", OTHER)) == [
        f"job.yaml:5: spec.code.configMap.name: there is no ConfigMap 'my-code' in this file (it has: {OTHER}): {HERE}",
        f"job.yaml:7: {SCRIPT_NAME}: there is no ConfigMap 'scripts' in this file (it has: {OTHER}): {HERE}",
    ]


def test_a_missing_key_names_those_that_there_are():
    assert missing(SCRIPT_FROM.replace("train.py", "fit.py"), CONFIG_MAP, CODE) == [
        "job.yaml:7: spec.runner.scriptFrom.configMap.key: ConfigMap 'scripts' has no key 'fit.py'; it has: train.py"
    ]


ENV = with_spec(
    """\
    envFrom:
      - {secretRef: {name: keys}}
      - {configMapRef: {name: settings, optional: true}}
    env:
      - {name: TOKEN, valueFrom: {secretKeyRef: {name: tokens, key: token}}}
      - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level, optional: true}}}
    runner:
      module: m
      env: [{name: STAGE, valueFrom: {configMapKeyRef: {name: stages, key: stage}}}]
    """
)


def test_references_of_variables_must_lead_somewhere():
    assert [line.split(":")[1:3] for line in missing(ENV)] == [
        ["6", " spec.envFrom[0].secretRef.name"],
        ["9", " spec.env[0].valueFrom.secretKeyRef.name"],
        ["13", " spec.runner.env[0].valueFrom.configMapKeyRef.name"],
    ]
    assert missing(ENV)[1].endswith("or TOKEN set in the environment")


def test_a_variable_may_come_from_the_environment_instead():
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"
    assert missing(ENV, secret, environ={"TOKEN": "t", "STAGE": "s"}) == []


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mode: Session", "job.yaml:5: spec.mode: mode Session needs Kubernetes: on this machine only Batch runs"),
        (
            "mode: Workers\nrunner: {module: m}",
            "job.yaml:5: spec.mode: mode Workers needs Kubernetes: on this machine only Batch runs",
        ),
        (
            "runner: {module: m}\nclusterRef: {name: shared}",
            "job.yaml:6: spec.clusterRef: needs Kubernetes: leave it out to run on a cluster of the job's own",
        ),
    ],
)
def test_what_needs_kubernetes_is_said(spec, said):
    assert missing(with_spec(spec)) == [said]


def test_nothing_of_a_small_job_is_ignored_on_this_machine():
    file = load(JOB)
    assert file.ignored_locally(file.job()) == []


def test_what_is_ignored_on_this_machine_is_said_once_each():
    job = with_spec(
        """\
        image: other
        serviceAccountName: me
        volumes: [{name: a, emptyDir: {}}]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        runner: {module: m, volumeMounts: [{name: a, mountPath: /a}], resources: {requests: {cpu: 1}}}
        scheduler: {resources: {requests: {cpu: 1}}}
        workers: {maxReplicas: 8, resources: {limits: {memory: 2Gi, nvidia.com/gpu: 1}}}
        artifacts: {destination: {persistentVolumeClaim: {claimName: models}}}
        """
    )
    file = load(job, "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n")
    assert file.ignored_locally(file.job()) == [
        (
            "On this machine these have no effect: spec.image, spec.volumes, spec.serviceAccountName, "
            "spec.runner.volumeMounts, spec.scheduler.resources."
        ),
        (
            "spec.workers.maxReplicas is not followed on this machine: it has 2 worker(s) (spec.workers.replicas) "
            "throughout."
        ),
        "spec.workers.resources: nvidia.com/gpu is not reserved on this machine.",
        "spec.artifacts.destination.persistentVolumeClaim needs Kubernetes: artifacts go to the local folder.",
        "POD_IP stays unset: there is no pod on this machine to take status.podIP from.",
        "Left out of this file: Service/web.",
    ]


def test_a_problem_reads_as_one_line():
    assert str(Problem("spec.x", "is bad", 3, "job.yaml")) == "job.yaml:3: spec.x: is bad"
    assert str(Problem("spec.x", "is bad", None, "job.yaml")) == "job.yaml: spec.x: is bad"
    assert str(Problem("", "is bad", None, "job.yaml")) == "job.yaml: is bad"
    assert str(Problem("spec.x", "is bad")) == "spec.x: is bad"


def test_nothing_in_a_file_can_write_to_the_terminal_but_text():
    said = problems(JOB + '"\\e[31mred": 1\n', JOB.replace("print(1)", '"x y \\e[31m"'))
    assert said == [
        r"job.yaml:5: \x1b[31mred: unknown field '\x1b[31mred'; known here: apiVersion, kind, metadata, spec, status",
        rf"job.yaml:10: spec.runner.script: line 1 of the script is not Python: {REFUSED}: x y \x1b[31m",
    ]
