"""The attempt's Service and NetworkPolicy: those of a Dask cluster, and those of mode Workers."""

from __future__ import annotations

from typing import Any

from dask_training.api import MANAGER, Label, Mode, Port, Role
from dask_training.manifests.attempt import Attempt


def scheduler_service(attempt: Attempt) -> dict[str, Any]:
    """The Service whose ClusterIP workers and runner dial; it owns what else is not a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": attempt.metadata(attempt.name, Role.CLUSTER, owner=attempt.owner),
        "spec": {
            "type": "ClusterIP",
            "selector": attempt.selector(Role.SCHEDULER),
            # Nobody waits for probes: the first connection may come as soon as the scheduler listens.
            "publishNotReadyAddresses": True,
            "ports": [
                {"name": "scheduler", "port": Port.SCHEDULER.value, "targetPort": Port.SCHEDULER.value},
                {"name": "http", "port": Port.SCHEDULER_HTTP.value, "targetPort": Port.SCHEDULER_HTTP.value},
            ],
        },
    }


def runner_service(attempt: Attempt) -> dict[str, Any]:
    """The Service of an attempt on somebody else's cluster: nobody dials it, it owns what is not the runner's pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": attempt.metadata(attempt.name, Role.CLUSTER, owner=attempt.owner),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": attempt.selector(Role.RUNNER),
            "ports": [{"name": "http", "port": Port.SCHEDULER_HTTP.value, "targetPort": Port.SCHEDULER_HTTP.value}],
        },
    }


def network_policy(attempt: Attempt, service_uid: str) -> dict[str, Any]:
    """Lets in nobody but the attempt's own pods, the operator to the scheduler's status, and a Session's clients.

    Its own pods reach one another at any port, for what trains on all workers at once opens ports of its own: the
    tracker of xgboost.dask on the scheduler, its workers where they run. A Session's clients may be in any pod of the
    namespace: who has no certificate of the attempt gets nothing from the scheduler. On somebody else's cluster there
    is one pod, and only the operator has to reach it. What goes out is not limited.
    """
    ports = [{"protocol": "TCP", "port": port.value} for port in (Port.SCHEDULER, Port.SCHEDULER_HTTP)]
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": attempt.settings.namespace}},
        "podSelector": {"matchLabels": {Label.NAME.value: MANAGER}},
    }
    status = {"from": [operator], "ports": [{"protocol": "TCP", "port": Port.SCHEDULER_HTTP.value}]}
    among = {"from": [{"podSelector": {"matchLabels": attempt.selector()}}]}
    ingress: list[dict[str, Any]] = [among, status] if attempt.job.spec.cluster_ref is None else [status]
    if attempt.job.spec.mode is Mode.SESSION:
        ingress.append({"from": [{"podSelector": {}}], "ports": ports})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": attempt.metadata(
            attempt.name, Role.CLUSTER, owner=attempt.service_owner(attempt.name, service_uid)
        ),
        "spec": {
            "podSelector": {"matchLabels": attempt.selector()},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def engines_service(attempt: Attempt) -> dict[str, Any]:
    """In mode Workers: a headless Service, which gives the workers names in DNS and owns what else is not a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": attempt.metadata(attempt.name, Role.CLUSTER, owner=attempt.owner),
        "spec": {
            "clusterIP": "None",
            "selector": attempt.selector(Role.WORKER),
            "publishNotReadyAddresses": True,
        },
    }


def engines_network_policy(attempt: Attempt, service_uid: str) -> dict[str, Any]:
    """In mode Workers: lets in the pods of the namespace, at any port: the session, and what it has started besides."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": attempt.metadata(
            attempt.name, Role.CLUSTER, owner=attempt.service_owner(attempt.name, service_uid)
        ),
        "spec": {
            "podSelector": {"matchLabels": attempt.selector()},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}]}],
        },
    }
