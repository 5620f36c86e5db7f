"""The CRD, and that the Python model says the same."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile

import msgspec
import pytest
import yaml

from dask_training import api
from dask_training.model import job as model
from dask_training.model.retry import RETRYABLE_REASONS
from dask_training.model.rules import RULES
from dask_training.model.schema import crd, fields, job_schema, with_defaults
from dask_training.model.structure import PATTERNS
from dask_training.model.update_rules import UPDATE_RULES

VERSION = crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]
STATUS = SCHEMA["properties"]["status"]
CHART_FILE = "charts/dask-training-operator/files/crd.yaml"
PACKAGE_FILE = "dask_training/model/crd.yaml"


# ---- the file


def test_names_are_those_of_the_api():
    names = crd()["spec"]["names"]
    assert crd()["metadata"]["name"] == f"{api.PLURAL}.{api.GROUP}"
    assert (crd()["spec"]["group"], VERSION["name"]) == (api.GROUP, api.VERSION)
    assert (names["kind"], names["plural"], names["shortNames"]) == (api.KIND, api.PLURAL, [api.SHORT_NAME])


def test_plain_kubectl_apply_can_hold_it():
    # kubectl keeps the whole object in an annotation; all annotations together may have 262,144 bytes.
    assert len(json.dumps(crd())) < 100_000


def test_the_package_has_the_chart_s_own_file(root):
    link = root / "operator" / PACKAGE_FILE
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == root / CHART_FILE


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return folder


def test_a_wheel_holds_the_real_content(built, root):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert wheel.read(PACKAGE_FILE) == (root / CHART_FILE).read_bytes()


def test_a_wheel_from_the_source_distribution_holds_it_too(built, root, tmp_path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as wheel:
        assert wheel.read(PACKAGE_FILE) == (root / CHART_FILE).read_bytes()


def test_any_yaml_reader_gets_the_same_from_it(root):
    assert yaml.safe_load((root / CHART_FILE).read_text()) == crd()


# ---- the schema


def test_every_list_map_and_text_has_a_bound():
    unbounded = [
        ".".join(path)
        for path, field in fields(SCHEMA)
        if path[0] in ("spec", "status")
        and (
            (field.get("type") == "array" and "maxItems" not in field)
            or (field.get("type") == "object" and "additionalProperties" in field and "maxProperties" not in field)
            or (field.get("type") == "string" and "maxLength" not in field and "enum" not in field)
            or ("x-kubernetes-int-or-string" in field and "maxLength" not in field)
        )
    ]
    assert unbounded == []


def test_every_field_is_described():
    plain = [
        ".".join(path) for path, field in fields(SPEC) if path[-1] not in ("[]", "{}") and not field.get("description")
    ]
    assert plain == []


def test_every_number_has_a_lower_bound():
    unbounded = [
        ".".join(path) for path, field in fields(SPEC) if field.get("type") == "integer" and "minimum" not in field
    ]
    assert unbounded == ["tolerations.[].tolerationSeconds"]  # negative means at once, as in a pod


def test_nothing_of_the_spec_is_taken_unseen():
    assert not [path for path, field in fields(SPEC) if "x-kubernetes-preserve-unknown-fields" in field]


def test_defaults_of_parts_with_rules_are_whole():
    # The API server puts the rules to a default as it stands, before it fills in the defaults within.
    for path, field in fields(SPEC):
        if field.get("type") == "object" and "default" in field and "x-kubernetes-validations" in field:
            assert with_defaults(field, field["default"]) == field["default"], path


def test_every_pattern_has_its_words():
    patterns = {field["pattern"] for _, field in fields(job_schema()) if "pattern" in field}
    assert patterns == set(PATTERNS)


def test_columns_and_subresources():
    columns = VERSION["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        *("Phase", "Workers", "Progress", "Attempt", "Age"),
    ]
    assert [column["name"] for column in columns if column.get("priority")] == ["Reason", "Artifacts", "Dashboard"]
    for path in [column["jsonPath"] for column in columns] + list(VERSION["subresources"]["scale"].values()):
        node = SCHEMA
        if not path.startswith(".metadata"):
            for part in path.removeprefix(".").split("."):
                node = node["properties"][part]
    assert set(VERSION["subresources"]) == {"status", "scale"}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (SPEC["properties"]["mode"], api.Mode),
        (STATUS["properties"]["phase"], api.Phase),
        (STATUS["properties"]["workers"]["properties"]["members"]["items"]["properties"]["state"], api.MemberState),
        (
            SPEC["properties"]["failurePolicy"]["properties"]["rules"]["items"]["properties"]["onReasons"]["items"],
            RETRYABLE_REASONS,
        ),
    ],
    ids=["mode", "phase", "member", "reason"],
)
def test_words_are_those_of_the_python_package(field, values):
    assert field["enum"] == [str(value) for value in values]


def test_a_reason_is_retryable_or_known_not_to_be():
    final = {"Completed", "ValidationFailed", "NameCollision", "DeadlineExceeded"}
    final |= {"IdleTimeout", "OwnerGone", "Interrupted", "InternalError"}
    assert {str(reason) for reason in api.Reason} - final <= set(RETRYABLE_REASONS)
    assert not final & set(RETRYABLE_REASONS)


def test_a_job_can_t_set_what_the_system_sets():
    reserved = [rule for rule in RULES["spec.env.[]"] if rule.field == "name"]
    ours = [name for name in api.Env if not all(rule.holds({"name": str(name)}) for rule in reserved)]
    assert ours == list(api.Env)


# ---- the rules


def rules_of_the_crd(*, on_update):
    found = {}
    for path, field in [((), SCHEMA), *fields(SCHEMA)]:
        for rule in field.get("x-kubernetes-validations", ()):
            if ("oldSelf" in rule["rule"]) == on_update:
                found.setdefault(".".join(path), []).append(
                    (rule.get("fieldPath", "").removeprefix("."), rule["message"])
                )
    return {place: sorted(rules) for place, rules in found.items()}


def rules_of_the_model(table):
    return {place: sorted((rule.field, rule.message) for rule in rules) for place, rules in table.items()}


def test_rules_between_fields_are_the_same_in_both():
    assert rules_of_the_model(RULES) == rules_of_the_crd(on_update=False)


def test_rules_for_changes_are_the_same_in_both():
    assert rules_of_the_model(UPDATE_RULES) == rules_of_the_crd(on_update=True)


# ---- the frozen values


def parts(struct, schema, path=("spec",)):
    """Each Struct of the model with its part of the schema."""
    yield path, struct, schema
    for field in msgspec.structs.fields(struct):
        for part in struct_in(field.type):
            below = schema["properties"][field.encode_name]
            yield from parts(part, below.get("items", below), (*path, field.encode_name))


def struct_in(annotation):
    """The Struct in `Runner | None` or `tuple[EnvVar, ...]`."""
    for each in getattr(annotation, "__args__", [annotation]):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            yield each


PARTS = [pytest.param(struct, schema, id=".".join(path)) for path, struct, schema in parts(model.Spec, SPEC)]


@pytest.mark.parametrize(("struct", "schema"), PARTS)
def test_a_struct_has_the_fields_of_the_schema(struct, schema):
    assert {field.encode_name for field in msgspec.structs.fields(struct)} == set(schema["properties"])


@pytest.mark.parametrize(("struct", "schema"), PARTS)
def test_a_struct_has_the_defaults_of_the_schema(struct, schema):
    for field in msgspec.structs.fields(struct):
        of_field = schema["properties"][field.encode_name]
        assert field.required == (field.encode_name in schema.get("required", ())), field.name
        if field.required:
            continue
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if "default" in of_field:
            assert msgspec.convert(with_defaults(of_field, of_field["default"]), field.type) == default, field.name
        else:  # what is not given: None, empty, or a part without anything in it
            assert not default or default == type(default)(), field.name


@pytest.mark.parametrize(("struct", "schema"), PARTS)
def test_a_struct_is_frozen_and_says_what_it_is(struct, schema):
    assert struct.__struct_config__.frozen
    assert struct.__doc__
