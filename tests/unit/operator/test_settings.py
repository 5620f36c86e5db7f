"""What the operator's environment may hold."""

from __future__ import annotations

import pytest

from dask_training.costs import Prices
from dask_training.settings import OperatorSettings, SettingsError


def read(**variables):
    return OperatorSettings.from_env({f"DASK_TRAINING_OPERATOR_{name}": value for name, value in variables.items()})


def test_an_empty_environment_is_an_operator_for_the_whole_cluster():
    settings = read()
    assert settings == OperatorSettings()
    assert (settings.scope, settings.max_workers, settings.network_policy) == ("cluster", 1000, True)
    assert not settings.has_store
    assert settings.default_ttl_seconds is None


def test_all_can_be_set(tmp_path):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n")
    settings = read(
        NAMESPACE="system",
        SCOPE="namespaces",
        WATCH_NAMESPACES="ml, research",
        RUNTIME_IMAGE="r:1",
        IMAGE_PULL_POLICY="Never",
        KEY_FILE=str(key),
        DEFAULT_TTL_SECONDS="60",
        MAX_WORKERS="10",
        MAX_CONCURRENT_JOBS="5",
        SCALE_DOWN_SECONDS="15",
        IMAGE_PULL_DEADLINE_SECONDS="30",
        NETWORK_POLICY="false",
        LOG_FORMAT="json",
        LOG_LEVEL="DEBUG",
        HEALTH_PORT="9090",
        LEASE_NAME="lease",
        PRIORITY_CLASS="high",
        PRICES='{"currency": "EUR", "cpuHour": 0.04}',
        STORE_ENDPOINT="http://store:7070",
        STORE_ADMIN_ENDPOINT="http://store:7071",
        STORE_CREDENTIALS_DIR="/etc/store",
        STORE_REGION="eu-1",
    )
    assert settings == OperatorSettings(
        namespace="system",
        scope="namespaces",
        watch_namespaces=("ml", "research"),
        runtime_image="r:1",
        image_pull_policy="Never",
        key=b"0123456789abcdef",
        default_ttl_seconds=60,
        max_workers=10,
        max_concurrent_jobs=5,
        scale_down_seconds=15,
        image_pull_deadline_seconds=30,
        network_policy=False,
        log_format="json",
        log_level="DEBUG",
        health_port=9090,
        lease_name="lease",
        priority_class="high",
        prices=Prices(currency="EUR", cpu_hour=0.04),
        store_endpoint="http://store:7070",
        store_admin_endpoint="http://store:7071",
        store_credentials_dir="/etc/store",
        store_region="eu-1",
    )
    assert settings.has_store
    assert "0123456789" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SCOPE", "world", "must be one of cluster, namespaces"),
        ("IMAGE_PULL_POLICY", "Sometimes", "must be one of nothing, Always"),
        ("MAX_WORKERS", "many", "must be a whole number from 1"),
        ("MAX_WORKERS", "0", "must be a whole number from 1"),
        ("MAX_WORKERS", "-1", "must be a whole number from 1"),
        ("MAX_WORKERS", "1²", "must be a whole number from 1"),
        ("HEALTH_PORT", "70000", "from 1 to 65535"),
        ("DEFAULT_TTL_SECONDS", "1d", "must be a whole number from 0"),
        ("NETWORK_POLICY", "perhaps", "must be true or false"),
        ("LOG_FORMAT", "xml", "must be one of text, json"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG"),
        ("PRICES", '{"currency": "EUR", "cpu": 1}', "unknown field `cpu`"),
        ("PRICES", "cheap", "must be JSON"),
        ("KEY_FILE", "/nowhere/key", "can't be read"),
    ],
)
def test_a_bad_value_is_named(name, value, said):
    with pytest.raises(SettingsError, match="DASK_TRAINING_OPERATOR_" + name) as error:
        read(**{name: value})
    assert said in str(error.value)


def test_namespaces_must_be_named_where_they_are_what_is_watched():
    with pytest.raises(SettingsError, match="DASK_TRAINING_OPERATOR_WATCH_NAMESPACES"):
        read(SCOPE="namespaces")


def test_a_key_that_could_be_guessed_is_refused(tmp_path):
    (tmp_path / "key").write_text("short")
    with pytest.raises(SettingsError, match="at least 16"):
        read(KEY_FILE=str(tmp_path / "key"))
