"""A pod as users have their sessions in: the runtime image, and the chart's session role and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import yaml
from kubernetes.config import kube_config

KINDS = "dtj,pods,services,secrets,networkpolicies,configmaps"


@pytest.fixture(scope="session", autouse=True)
def no_credentials_left() -> Iterator[None]:
    """The kubeconfig's certificates, which the client's library leaves in files until Python ends."""
    yield
    kube_config._cleanup_temp_files()


@pytest.fixture
def left(kubectl) -> Callable[[], list[str]]:
    """What is in the test's namespace, but for what Kubernetes puts into each."""

    def left() -> list[str]:
        found = kubectl("get", KINDS, "-o", "name").split()
        return [name for name in found if name != "configmap/kube-root-ca.crt"]

    return left


@pytest.fixture
def start_session(cluster, namespace, apply) -> Callable[[str], str]:
    """Starts a pod that runs the Python code given; returns its name."""

    def start(code: str) -> str:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "session"}}
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "session"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "dask-training-session",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "session", "namespace": namespace}],
        }
        container = {
            "name": "session",
            "image": cluster.images["runtime"],
            "command": ["python", "-c", code],
            "env": [{"name": "HOME", "value": "/tmp"}],
            "resources": {"requests": {"cpu": "10m", "memory": "128Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "notebook"},
            "spec": {
                "serviceAccountName": "session",
                "restartPolicy": "Never",
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
            },
        }
        apply(yaml.safe_dump(account), yaml.safe_dump(binding), yaml.safe_dump(pod))
        return "notebook"

    return start
