"""Kubernetes quantities."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_training.model.quantity import parse_memory, parse_quantity

SCALES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (2, "2"),
        ("2.", "2"),
        (".5", "0.5"),
        ("1.5Gi", "1610612736"),
        ("1e3", "1000"),
        ("1E-3", "0.001"),
        ("1E", "1000000000000000000"),
        ("100n", "1e-7"),
        ("0", "0"),
    ],
)
def test_a_quantity_is_its_number(text, number):
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1GB", "1gi", "1K", "-1", "+1", "1e", "0x10", "1e3k", "½", "1\n", "inf", "nan", "1e9999"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


@settings(deadline=None)
@given(st.integers(0, 10**12), st.sampled_from(sorted(SCALES)))
def test_decimal_suffixes_are_powers_of_ten(number, suffix):
    assert parse_quantity(f"{number}{suffix}") == Decimal(number).scaleb(SCALES[suffix])


@settings(deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(sorted(BINARY)))
def test_binary_suffixes_are_powers_of_two(number, suffix):
    assert parse_memory(f"{number}{suffix}") == number * 2 ** BINARY[suffix]


@settings(deadline=None)
@given(st.decimals(0, 10**6, places=3))
def test_memory_is_rounded_up_to_whole_bytes(number):
    assert parse_memory(f"{number:f}") - number < 1
    assert parse_memory(f"{number:f}") >= number
