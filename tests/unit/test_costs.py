"""The one formula between seconds of CPU, memory and GPUs, and money."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_training.costs import ROLES, Amounts, Prices, ResourceSeconds, is_gpu

PRICES = Prices(currency="EUR", cpu_hour=0.04, memory_gib_hour=0.005, gpu_hour=0.9)
SECONDS = st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000)
AMOUNTS = st.builds(Amounts, cpu=SECONDS, memory_gib=SECONDS, gpu=SECONDS)
MONEY = st.integers(0, 10**6).map(lambda thousandths: thousandths / 1000)


def test_an_hour_of_each_costs_what_its_price_says():
    assert PRICES.cost_of(Amounts(cpu=3600)).amount == "0.040000"
    assert PRICES.cost_of(Amounts(memory_gib=3600)).amount == "0.005000"
    assert PRICES.cost_of(Amounts(gpu=3600)).amount == "0.900000"
    both = PRICES.cost_of(Amounts(cpu=2 * 3600, memory_gib=8 * 3600, gpu=1800))
    assert (both.amount, both.currency) == ("0.570000", "EUR")


@given(st.dictionaries(st.sampled_from(ROLES), AMOUNTS), MONEY, MONEY, MONEY)
def test_what_the_roles_cost_adds_up_to_what_all_costs(by_role, cpu, memory, gpu):
    prices = Prices(currency="EUR", cpu_hour=cpu, memory_gib_hour=memory, gpu_hour=gpu)
    parts = sum(Decimal(prices.cost_of(amounts).amount) for amounts in by_role.values())
    whole = Decimal(prices.cost_of(ResourceSeconds.of(by_role)).amount)
    assert abs(whole - parts) <= Decimal("0.000002")  # each is rounded to a millionth


@given(st.lists(st.tuples(st.sampled_from(ROLES), AMOUNTS, st.integers(0, 1000)), max_size=20))
def test_seconds_that_are_added_one_by_one_are_those_of_all_roles(pieces):
    used = ResourceSeconds()
    for role, amounts, seconds in pieces:
        used = used.plus_role(role, amounts, seconds)
    assert used == ResourceSeconds.of(used.by_role) or used.cpu == pytest.approx(ResourceSeconds.of(used.by_role).cpu)
    assert used.cpu == pytest.approx(sum(amounts.cpu * seconds for _, amounts, seconds in pieces), abs=0.02)
    assert used.memory_gib == pytest.approx(sum(part.memory_gib for part in used.by_role.values()), abs=0.02)
    assert used.gpu == pytest.approx(sum(part.gpu for part in used.by_role.values()), abs=0.02)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('{"currency":"EUR","cpu":1}', "unknown field `cpu` (known fields: currency, cpuHour, memoryGiBHour, gpuHour"),
        ('{"currency":"euro"}', "$.currency"),
        ('{"cpuHour":0.1}', "missing required field `currency`"),
        ('{"currency":"EUR","cpuHour":"0.1"}', "$.cpuHour"),
        ('{"currency":"EUR","gpuHour":-1}', "$.gpuHour"),
        ("[1]", "Expected `object`"),
        ("{", "must be JSON"),
    ],
)
def test_prices_that_are_not_right_are_named(document, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is what matters
        Prices.read(document)
    assert said in str(caught.value)


def test_no_prices_are_none():
    assert Prices.read("") is None
    assert Prices.read({}) is None


def test_gpus_are_told_from_other_resources():
    assert [is_gpu(name) for name in ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915")] == [True] * 3
    assert not any(is_gpu(name) for name in ("cpu", "memory", "gpu", "ephemeral-storage", "example.com/fpga"))
