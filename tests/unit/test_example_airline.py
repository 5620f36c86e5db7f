"""The airline example without a cluster: its flights are what it says they are."""

import sys

import numpy as np
import pytest
from example_runs import EXAMPLES
from modules import load_module
from sklearn.model_selection import ParameterGrid

FEATURES = [
    "month", "day", "weekday", "dep_time", "arr_time", "flight_number",
    "carrier", "origin", "dest", "route", "distance",
]  # fmt: skip


@pytest.fixture(scope="module")
def example():
    """The script, as a module."""
    return load_module(EXAMPLES / "airline" / "train.py")


@pytest.fixture(scope="module")
def flights(example):
    """Features, labels and true probabilities of 100,000 flights."""
    return example.make_flights(100_000)


def test_the_grid_is_that_of_the_blog_and_so_is_the_full_size(example):
    assert len(ParameterGrid(example.GRID)) * 3 == 75
    assert example.ROWS["full"] == 563_000


def test_the_features_are_those_of_the_schedule_and_no_label_is_among_them(example, flights):
    features, labels, _ = flights
    assert features.columns.to_list() == FEATURES
    assert labels.columns.to_list() == ["cancelled", "delayed", "diverted"]
    assert features.notna().all().all()
    # The same schedule whatever becomes of the flights: no feature can tell.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(example.SHARE, "cancelled", 0.5)
        others, cancelled_often, _ = example.make_flights(100_000)
    assert cancelled_often["cancelled"].mean() > 0.4
    assert others.equals(features)


def test_the_flights_are_the_same_each_time(example, flights):
    for one, other in zip(flights, example.make_flights(100_000), strict=True):
        assert one.equals(other)


def test_as_many_flights_are_cancelled_late_and_diverted_as_it_says(example, flights):
    _, labels, known = flights
    assert known["cancelled"].mean() == pytest.approx(0.012, abs=1e-6)
    assert labels["cancelled"].mean() == pytest.approx(0.012, abs=0.0015)
    assert labels["delayed"].mean() == pytest.approx(0.20, abs=0.01)
    assert labels["diverted"].mean() == pytest.approx(0.004, abs=0.001)
    assert not labels.loc[labels["cancelled"] == 1, ["delayed", "diverted"]].any().any()


@pytest.mark.parametrize("label", ["cancelled", "delayed", "diverted"])
def test_the_true_probabilities_are_true(flights, label):
    _, labels, known = flights
    probability = known[label].to_numpy()
    for part in np.array_split(np.argsort(probability), 10):  # from the least likely tenth to the likeliest
        expected, deviation = probability[part].sum(), np.sqrt((probability[part] * (1 - probability[part])).sum())
        assert abs(labels[label].to_numpy()[part].sum() - expected) < 4.5 * deviation


def test_the_probabilities_follow_from_the_features_alone(example, flights):
    features, _, known = flights
    again = example.probabilities(features.iloc[::-1]).iloc[::-1]  # no index that would line them up
    assert again["cancelled"].to_numpy() == pytest.approx(known["cancelled"].to_numpy(), rel=1e-9)


def test_routes_are_between_real_airports(example):
    routes = example.most_flown_routes()
    assert len(routes) == len(routes[["origin", "dest"]].drop_duplicates()) == 50
    assert routes["traffic"].sum() == pytest.approx(1)
    distance = routes.set_index(["origin", "dest"])["distance"]
    assert distance["ATL", "ORD"] == distance["ORD", "ATL"] == pytest.approx(606, rel=0.01)
    assert distance["ATL", "LAX"] == pytest.approx(1947, rel=0.01)


def test_clock_times_and_dates_are_possible(flights):
    features, _, _ = flights
    for name in ("dep_time", "arr_time"):
        assert features[name].between(0, 2359).all()
        assert (features[name] % 100 < 60).all()
    assert set(features["month"]) == set(range(1, 13))
    assert set(features["weekday"]) == set(range(1, 8))
    newyear = features[(features["month"] == 1) & (features["day"] == 1)]
    assert set(newyear["weekday"]) == {5}  # 1 January 1988 was a Friday


def test_too_few_flights_are_refused(example, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--rows", "100"])
    with pytest.raises(SystemExit, match="2"):
        example.parse_arguments()
    assert "--rows must be at least 6000, got 100" in capsys.readouterr().err
