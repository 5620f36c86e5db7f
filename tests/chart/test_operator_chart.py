"""What the chart dask-training-operator renders."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from dask_training import __version__
from dask_training.costs import Prices
from dask_training.kube.rbac import RULES, Scope
from dask_training.model.schema import crd
from dask_training.settings import PREFIX, OperatorSettings

SNAPSHOT = Path(__file__).parent / "defaults.yaml"
NAMESPACES = {"rbac": {"scope": "namespaces", "watchNamespaces": ["team-a", "team-b"]}}
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass"}
# For values whose default is what everything-on needs: what else they may be.
ALTERNATIVES = {
    "rbac.scope": "namespaces",
    "userRole.create": False,
    "serviceAccount.create": False,
    "store.enabled": False,
    "store.persistence.enabled": False,
    "store.persistence.existingClaim": "mine",
    "store.image.digest": "sha256:" + "f" * 64,
    "store.priorityClassName": "stores-first",
    "jobs.image.digest": "sha256:" + "f" * 64,
    "podDisruptionBudget.enabled": False,
    "metrics.service": False,
    "networkPolicy.enabled": False,
}
# Without the other, these say nothing.
NEEDS = {
    "rbac.watchNamespaces": {"rbac.scope": "namespaces", "priorityClass.create": False, "userRole.bindings": []},
    "rbac.scope": {"priorityClass.create": False},
    "metrics.service": {"metrics.serviceMonitor.enabled": False},
    "operator.image.tag": {"operator.image.digest": ""},
    "image.tag": {"store.image.tag": ""},
}


def of_kind(documents, kind, name=""):
    return [each for each in documents if each["kind"] == kind and each["metadata"]["name"].endswith(name)]


def pod_specs(documents):
    return [each["spec"]["template"]["spec"] for each in documents if "template" in each.get("spec", {})]


def with_value(values, path, value):
    """A copy of `values` with another value at the dotted path."""
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return changed


def without_secrets(documents):
    """The documents with a mark in place of what is random, and without the long CRD."""
    documents = [copy.deepcopy(each) for each in documents if each["kind"] != "CustomResourceDefinition"]
    for secret in of_kind(documents, "Secret"):
        secret["data"] = dict.fromkeys(secret["data"], "(random)")
    return documents


# ---- as a whole


def test_defaults_are_as_they_were(render_chart):
    """A change of what people get without asking is seen in review: UPDATE_SNAPSHOT=1 writes the file again."""
    text = "# `helm template dask-training` with no values; the CRD is left out.\n"
    text += yaml.safe_dump_all(without_secrets(render_chart()), width=160)
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(text)
    assert text == SNAPSHOT.read_text()


@pytest.mark.parametrize("version", ["1.29.0", "1.34.0", "1.37.0"])
@pytest.mark.parametrize("case", ["defaults", "all on", "namespaces"])
def test_every_object_fits_kubernetes_schemas(render_chart, all_on, case, version):
    values = {"defaults": {}, "all on": all_on, "namespaces": NAMESPACES}[case]
    documents = render_chart(values=values, kube_version=version)
    foreign = [each["kind"] for each in documents if each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert foreign == (["ServiceMonitor"] if case == "all on" else [])
    for document in documents:
        if document["kind"] not in foreign:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_would_find_a_mistake(render_chart):
    [deployment] = of_kind(render_chart(), "Deployment", "-operator")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34.0", strict=True)


@pytest.mark.parametrize("chart", ["dask-training-operator", "dask-training-job"])
def test_helm_has_nothing_to_complain_about(helm, root, all_on, chart):
    values = yaml.safe_dump(all_on if chart == "dask-training-operator" else {"workers": {"replicas": 3}})
    for given in ("", values):
        assert "0 chart(s) failed" in helm("lint", "--strict", root / "charts" / chart, "--values", "-", values=given)


def test_versions_are_the_package_s(root):
    for chart in ("dask-training-operator", "dask-training-job"):
        assert yaml.safe_load((root / "charts" / chart / "Chart.yaml").read_text())["appVersion"] == __version__


def documented_values(root):
    """The dotted paths of the README's table, which docs/reference/charts.py writes from values.yaml."""
    readme = (root / "charts/dask-training-operator/README.md").read_text()
    return re.findall(r"^\| `([\w.]+)` \|", readme, flags=re.MULTILINE)


def test_every_value_changes_something(render_chart, root, all_on):
    defaults = yaml.safe_load((root / "charts/dask-training-operator/values.yaml").read_text())

    def rendered(values):
        return without_secrets(render_chart(values=values))

    def at(values, path):
        for name in path.split("."):
            values = values[name]
        return values

    paths = [path for path in documented_values(root) if path != "crds.install"]  # has its own test, and takes long
    assert len(paths) > 60
    everything = with_value(all_on, "crds.install", False)
    unchanged = rendered(everything)
    idle = []
    for path in paths:
        values = everything
        for other, value in NEEDS.get(path, {}).items():
            values = with_value(values, other, value)
        other = ALTERNATIVES[path] if path in ALTERNATIVES else at(defaults, path)
        before = rendered(values) if path in NEEDS else unchanged
        if before == rendered(with_value(values, path, other)):
            idle.append(path)
    assert idle == []


# ---- names


def test_names_and_labels_of_the_longest_release_are_short_enough(render_chart, all_on):
    release = "a" + 51 * "b" + "c"  # the longest that Helm takes
    for values in ({}, NAMESPACES, with_value(all_on, "fullnameOverride", "")):
        for document in render_chart(values=values, release=release):
            metadata = document["metadata"]
            if document["kind"] != "CustomResourceDefinition":
                assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
            assert all(len(value) <= 63 for value in metadata.get("labels", {}).values())


@pytest.mark.parametrize(
    ("release", "operator"),
    [
        ("dask-training", "dask-training-operator"),
        ("dask-training-operator", "dask-training-operator"),
        ("mine", "mine-dask-training-operator"),
    ],
)
def test_names_say_what_it_is_once(render_chart, release, operator):
    documents = render_chart(release=release)
    assert {each["metadata"]["name"] for each in of_kind(documents, "Deployment")} == {
        operator,
        operator.replace("-operator", "-store"),
    }


def test_no_object_is_there_twice(render_chart, all_on):
    for values in ({}, all_on, NAMESPACES):
        keys = [
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in render_chart(values=values)
        ]
        assert len(keys) == len(set(keys))


def test_selectors_choose_their_own_pods_alone(render_chart):
    documents = render_chart()
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in of_kind(documents, "Deployment")
    }
    for deployment in of_kind(documents, "Deployment"):
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        assert [name for name, labels in pods.items() if wanted <= labels.items()] == [deployment["metadata"]["name"]]
    for service in of_kind(documents, "Service"):
        chosen = [name for name, labels in pods.items() if service["spec"]["selector"].items() <= labels.items()]
        assert len(chosen) == 1


def test_a_new_chart_version_alone_restarts_no_pod(render_chart):
    for deployment in of_kind(render_chart(), "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


# ---- the CRD


def test_the_crd_is_the_file_and_stays_when_the_release_goes(render_chart):
    [rendered] = of_kind(render_chart(), "CustomResourceDefinition")
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    rendered["metadata"].pop("labels")
    assert rendered == crd()


def test_the_crd_may_be_somebody_else_s(render_chart):
    assert of_kind(render_chart(values={"crds": {"install": False}}), "CustomResourceDefinition") == []


# ---- rights


def rule_set(rules):
    """Single permissions, so that the grouping of rules doesn't matter."""
    return {
        (group, resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(scope):
    return rule_set([rule.to_dict() for rule in RULES if rule.scope is scope])


def roles_of(documents, account):
    """The roles that are bound to a service account, as (namespace or None for the whole cluster, permissions)."""
    roles = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in documents}
    for binding in of_kind(documents, "RoleBinding") + of_kind(documents, "ClusterRoleBinding"):
        if {"kind": "ServiceAccount", "name": account, "namespace": "some-namespace"} in binding["subjects"]:
            namespace = binding["metadata"].get("namespace")
            reference = binding["roleRef"]
            where = None if reference["kind"] == "ClusterRole" else namespace
            yield namespace, rule_set(roles[reference["kind"], where, reference["name"]]["rules"])


def test_the_operator_may_do_in_the_cluster_what_its_code_needs(render_chart):
    roles = dict(roles_of(render_chart(), "dask-training-operator"))
    assert roles == {None: needed(Scope.JOBS), "some-namespace": needed(Scope.OPERATOR)}


def test_the_operator_may_do_in_its_namespaces_what_its_code_needs(render_chart):
    roles = dict(roles_of(render_chart(values=NAMESPACES), "dask-training-operator"))
    jobs = needed(Scope.JOBS)
    assert roles == {"team-a": jobs, "team-b": jobs, "some-namespace": needed(Scope.OPERATOR)}


def test_with_no_namespaces_named_it_is_the_release_s_own(render_chart):
    documents = render_chart(values={"rbac": {"scope": "namespaces"}})
    namespaces = [namespace for namespace, _ in roles_of(documents, "dask-training-operator")]
    assert namespaces == ["some-namespace", "some-namespace"]
    assert settings(documents)["WATCH_NAMESPACES"] == "some-namespace"


def test_scope_namespaces_has_nothing_for_the_cluster_but_the_crd(render_chart):
    documents = render_chart(values=NAMESPACES)
    assert [each["kind"] for each in documents if each["kind"] in CLUSTER_SCOPED] == ["CustomResourceDefinition"]
    assert all("namespace" in each["metadata"] for each in documents if each["kind"] not in CLUSTER_SCOPED)


def test_a_priority_class_is_refused_in_scope_namespaces(render_chart):
    with pytest.raises(Exception, match=r"PriorityClass is the cluster's, and rbac.scope is namespaces"):
        render_chart(values=NAMESPACES | {"priorityClass": {"create": True}})


def test_no_rule_has_a_wildcard_or_reads_secrets_or_enters_pods(render_chart, all_on):
    for values in ({}, all_on, NAMESPACES):
        rules = [rule for each in render_chart(values=values) for rule in each.get("rules", [])]
        assert rules
        for group, resource, verb, _ in rule_set(rules):
            assert "*" not in group + resource + verb
            assert resource not in {"pods/exec", "pods/attach", "pods/ephemeralcontainers"}
            assert resource != "secrets" or verb in {"create", "patch"}


def test_people_see_all_that_they_may_change_and_viewers_change_nothing(render_chart):
    documents = render_chart()
    [user] = of_kind(documents, "ClusterRole", "-user")
    [viewer] = of_kind(documents, "ClusterRole", "-viewer")
    assert {verb for *_, verb, _ in rule_set(viewer["rules"])} == {"get", "list", "watch"}
    assert rule_set(user["rules"]) > rule_set(viewer["rules"]) - {
        ("dask-training.io", "dasktrainingjobs/scale", "get", ())
    }
    may = {(resource, verb) for _, resource, verb, _ in rule_set(user["rules"])}
    assert may >= {
        ("dasktrainingjobs", "create"),
        ("dasktrainingjobs/scale", "patch"),
        ("pods/log", "get"),
        ("pods/portforward", "create"),
        ("pods/portforward", "get"),
        ("configmaps", "create"),
    }
    assert not [verb for resource, verb in may if resource == "dasktrainingjobs/status" and verb != "get"]


def test_a_session_may_launch_what_is_its_own_and_nothing_that_leads_further(render_chart):
    """A notebook runs whatever its user types: with this role it neither makes nor enters pods, nor reads keys."""
    documents = render_chart()
    [session], [user] = (of_kind(documents, "ClusterRole", role) for role in ("-session", "-user"))
    may = {(resource, verb) for _, resource, verb, _ in rule_set(session["rules"])}
    jobs = {("dasktrainingjobs", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")}
    reads = {("pods", "get"), ("pods", "list"), ("pods/log", "get"), ("events", "list")}
    assert may == jobs | reads | {("configmaps", verb) for verb in ("create", "patch", "delete")}
    assert rule_set(user["rules"]) > rule_set(session["rules"])


@pytest.mark.parametrize(
    ("role", "aggregated"),
    [("-user", {"admin", "edit"}), ("-viewer", {"admin", "edit", "view"}), ("-session", set())],
)
def test_kubernetes_own_roles_include_them_unless_switched_off(render_chart, role, aggregated):
    def labels(values):
        [found] = of_kind(render_chart(values=values), "ClusterRole", role)
        return {name for name in found["metadata"]["labels"] if name.startswith("rbac.")}

    assert labels({}) == {f"rbac.authorization.k8s.io/aggregate-to-{name}" for name in aggregated}
    assert labels({"userRole": {"aggregateToDefaultRoles": False}}) == set()


def test_people_are_bound_where_the_values_say(render_chart, all_on):
    documents = render_chart(values=all_on)
    [user] = of_kind(documents, "RoleBinding", "-user-0")
    [viewer] = of_kind(documents, "RoleBinding", "-viewer-1")
    assert (user["metadata"]["namespace"], user["roleRef"]["name"]) == ("team-a", "teams-dask-user")
    assert (viewer["metadata"]["namespace"], viewer["roleRef"]["name"]) == ("team-b", "teams-dask-viewer")
    assert viewer["subjects"] == [{"kind": "ServiceAccount", "name": "dashboard", "namespace": "monitoring"}]


def test_people_can_t_be_bound_where_no_role_is(render_chart):
    bindings = [{"namespace": "other", "subjects": [{"kind": "User", "name": "a"}]}]
    with pytest.raises(Exception, match=r"userRole.bindings\[0\].namespace: other is none of rbac.watchNamespaces"):
        render_chart(values=NAMESPACES | {"userRole": {"bindings": bindings}})


# ---- pods


@pytest.mark.parametrize("case", ["defaults", "namespaces", "plain"])
def test_every_pod_meets_pod_security_restricted(render_chart, case):
    values = {"defaults": {}, "namespaces": NAMESPACES, "plain": {"store": {"persistence": {"enabled": False}}}}[case]
    specs = pod_specs(render_chart(values=values))
    assert len(specs) == 2
    for spec in specs:
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {
            "emptyDir",
            "secret",
            "persistentVolumeClaim",
        }
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert not any("hostPort" in port for port in container["ports"])
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_what_the_containers_may_not_do_holds_whatever_the_pod_s_context_is(render_chart):
    nothing = {"operator": {"podSecurityContext": None}, "store": {"podSecurityContext": None}}
    for spec in pod_specs(render_chart(values=nothing)):
        assert "securityContext" not in spec
        [container] = spec["containers"]
        assert container["securityContext"]["runAsNonRoot"] is True


def test_only_the_operator_has_a_token(render_chart):
    documents = render_chart()
    tokens = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for each in of_kind(documents, "Deployment")
    }
    assert tokens == {"dask-training-operator": True, "dask-training-store": False}
    [account] = of_kind(documents, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False


def test_no_object_has_a_finalizer_or_is_a_hook(render_chart, all_on):
    for document in render_chart(values=all_on):
        assert "finalizers" not in document["metadata"]
        assert "helm.sh/hook" not in document["metadata"].get("annotations", {})


@pytest.mark.parametrize(
    ("image", "values", "reference"),
    [
        ("operator", {}, f"dask-training-operator:{__version__}"),
        ("operator", {"image": {"tag": "dev"}}, "dask-training-operator:dev"),
        ("operator", {"image": {"tag": "dev"}, "operator": {"image": {"tag": "1"}}}, "dask-training-operator:1"),
        ("store", {"image": {"registry": "a.example/b/"}}, f"a.example/b/dask-training-store:{__version__}"),
        ("store", {"image": {"registry": "a.b"}, "store": {"image": {"repository": "c.d/e"}}}, f"c.d/e:{__version__}"),
        (
            "store",
            {"store": {"image": {"tag": "1", "digest": "sha256:" + 64 * "0"}}},
            "dask-training-store@sha256:" + 64 * "0",
        ),
    ],
)
def test_images_are_named_as_the_values_say(render_chart, image, values, reference):
    [deployment] = of_kind(render_chart(values=values), "Deployment", f"-{image}")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == reference


def test_a_budget_and_a_spread_are_for_more_than_one_replica(render_chart):
    def of(replicas):
        documents = render_chart(values={"operator": {"replicas": replicas}})
        [operator] = of_kind(documents, "Deployment", "-operator")
        spread = operator["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        return len(of_kind(documents, "PodDisruptionBudget")), len(spread)

    assert (of(0), of(1), of(2)) == ((0, 0), (0, 0), (1, 1))


# ---- settings


def settings(documents):
    """The operator's environment, without the prefix."""
    [deployment] = of_kind(documents, "Deployment", "-operator")
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert all(each["name"].startswith(PREFIX) for each in environment)
    return {each["name"].removeprefix(PREFIX): each.get("value", "some-namespace") for each in environment}


def read_settings(given, tmp_path):
    """What the operator makes of it, with files where the pod has them."""
    key = tmp_path / "key"
    key.write_bytes(64 * b"k")
    return OperatorSettings.from_env({PREFIX + name: value for name, value in (given | {"KEY_FILE": str(key)}).items()})


def test_the_operator_reads_the_defaults_as_they_are_meant(render_chart, tmp_path):
    read = read_settings(settings(render_chart()), tmp_path)
    assert read == OperatorSettings(
        namespace="some-namespace",
        runtime_image=f"dask-training-runtime:{__version__}",
        image_pull_policy="IfNotPresent",
        key=64 * b"k",
        lease_name="dask-training-operator",
        store_endpoint="http://dask-training-store.some-namespace.svc:7070",
        store_admin_endpoint="http://dask-training-store.some-namespace.svc:7071",
        store_credentials_dir="/etc/dask-training-operator/store",
    )


def test_every_setting_can_be_reached_from_values(render_chart, all_on, tmp_path):
    given = settings(
        render_chart(values=with_value(with_value(all_on, "rbac.scope", "namespaces"), "priorityClass", {}))
    )
    fields = {name.upper() for name in OperatorSettings.__dataclass_fields__}
    assert set(given) == fields - {"KEY"} | {"KEY_FILE"}
    read = read_settings(given, tmp_path)
    assert read.watch_namespaces == ("team-a", "team-b")
    assert (read.default_ttl_seconds, read.max_workers, read.max_concurrent_jobs) == (0, 10, 20)
    assert read.scale_down_seconds == 120
    assert read.prices == Prices(currency="EUR", cpu_hour=0.04, memory_gib_hour=0.005, gpu_hour=0.9)
    assert (read.log_format, read.log_level, read.network_policy) == ("json", "DEBUG", False)
    assert (read.runtime_image, read.image_pull_policy) == ("localhost:5000/runtime:2.0", "Always")
    assert (read.priority_class, read.image_pull_deadline_seconds) == ("batch", 60)
    assert read.store_region == "eu-central-1"


def test_files_are_mounted_where_the_settings_say(render_chart):
    documents = render_chart()
    [deployment] = of_kind(documents, "Deployment", "-operator")
    spec = deployment["spec"]["template"]["spec"]
    mounts = {each["mountPath"]: each["name"] for each in spec["containers"][0]["volumeMounts"]}
    volumes = {each["name"]: each for each in spec["volumes"]}
    given = settings(documents)
    key, credentials = Path(given["KEY_FILE"]), given["STORE_CREDENTIALS_DIR"]
    assert [item["path"] for item in volumes[mounts[str(key.parent)]]["secret"]["items"]] == [key.name]
    shown = volumes[mounts[credentials]]["secret"]
    assert {item["path"] for item in shown["items"]} == {"access-key", "secret-key"}
    [secret] = of_kind(documents, "Secret", shown["secretName"])
    assert {item["key"] for item in shown["items"]} == set(secret["data"])


def test_without_a_store_the_operator_knows_of_none(render_chart, tmp_path):
    documents = render_chart(values={"store": {"enabled": False}})
    assert [each["metadata"]["name"] for each in documents if "store" in each["metadata"]["name"]] == []
    assert not read_settings(settings(documents), tmp_path).has_store


# ---- Secrets


def test_secrets_are_random_and_long(render_chart):
    first, second = (of_kind(render_chart(), "Secret") for _ in range(2))
    assert {each["metadata"]["name"] for each in first} == {"dask-training-key", "dask-training-store-root"}
    for one, other in zip(first, second, strict=True):
        for key in one["data"]:
            assert one["data"][key] != other["data"][key]
            assert len(one["data"][key]) >= (26 if key == "access-key" else 52)


def test_given_secrets_are_used_and_none_are_made(render_chart, all_on):
    documents = render_chart(values=all_on)
    assert of_kind(documents, "Secret") == []
    text = yaml.safe_dump(pod_specs(documents))
    assert "sealed-key" in text
    assert "sealed-root" in text


def test_artifacts_and_their_accounts_outlive_the_release(render_chart):
    kept = {
        (each["kind"], each["metadata"]["name"])
        for each in render_chart()
        if each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {
        ("CustomResourceDefinition", "dasktrainingjobs.dask-training.io"),
        ("PersistentVolumeClaim", "dask-training-store"),
        ("Secret", "dask-training-store-root"),
    }


# ---- the network


def test_the_store_lets_in_jobs_and_the_operator_alone(render_chart):
    [policy] = of_kind(render_chart(), "NetworkPolicy", "-store")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy["spec"]
    jobs, operator = policy["spec"]["ingress"]
    assert jobs["ports"] == [{"port": 7070}]
    assert jobs["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "dask-training-job"}}, "namespaceSelector": {}}
    ]
    assert operator["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert "namespaceSelector" not in operator["from"][0]


def test_the_store_of_some_namespaces_lets_in_their_jobs_alone(render_chart):
    [policy] = of_kind(render_chart(values=NAMESPACES), "NetworkPolicy", "-store")
    [peer] = policy["spec"]["ingress"][0]["from"]
    assert peer["namespaceSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a", "team-b"]}
    ]


def test_the_operator_is_reached_on_its_health_port_alone(render_chart):
    documents = render_chart()
    [policy] = of_kind(documents, "NetworkPolicy", "-operator")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8080}]}]
    [deployment] = of_kind(documents, "Deployment", "-operator")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["ports"] == [
        {"name": "health", "containerPort": int(settings(documents)["HEALTH_PORT"])}
    ]
