"""The taxi example's dirt and how it is cleaned, without a cluster: what was not missing comes back as it was."""

import dask
import pandas as pd
import pytest
from example_runs import EXAMPLES
from modules import load_module


@pytest.fixture(scope="module")
def example():
    return load_module(EXAMPLES / "taxi" / "train.py")


def company_of(example, part):
    return "yellow" if part < example.PARTS // 2 else "green"


def test_the_raw_files_are_dirty_and_come_back_clean(example, tmp_path):
    example.write_raw_files(tmp_path, 4000)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 8
    for path in paths:
        company, part = path.stem.split("-")
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert list(raw.columns) == example.COLUMNS
        is_missing = raw.isin(example.SPELLINGS_OF_MISSING[company])
        assert is_missing.mean().between(0.003, 0.07).all()  # of 500 each
        for name in ("distance", "fare") if company == "yellow" else ("vendor", "from_zone"):
            assert set(example.SPELLINGS_OF_MISSING[company]) & set(raw[name])
        true = example.make_trips(500, int(part))
        clean = example.fix_types(raw.mask(is_missing))
        for name in example.COLUMNS:
            expected = true[name].where(~is_missing[name])
            pd.testing.assert_series_equal(clean[name], expected, check_dtype=False, check_index=False)
        is_good = (true["tip"] >= 0.2 * true["fare"]).where(~is_missing["tip"] & ~is_missing["fare"])
        pd.testing.assert_series_equal(clean["good_tip"], is_good, check_dtype=False, check_names=False)


def test_dask_reads_all_files_of_both_companies_as_pandas_does(example, tmp_path):
    example.write_raw_files(tmp_path, 2000)
    read = example.read_trips(tmp_path)
    assert read.npartitions == 8
    trips = read.compute(scheduler="synchronous")
    assert dict(trips.dtypes) == dict(read.dtypes)
    parts = []
    for path in [*sorted(tmp_path.glob("yellow-*")), *sorted(tmp_path.glob("green-*"))]:
        missing = example.SPELLINGS_OF_MISSING[path.stem.split("-")[0]]
        parts.append(example.fix_types(pd.read_csv(path, dtype=str, na_values=missing, keep_default_na=False)))
    one, other = (frame.astype(object).where(frame.notna(), None) for frame in (trips, pd.concat(parts)))
    pd.testing.assert_frame_equal(one, other)  # Dask's missing text is <NA>, that of pandas is nan


def test_nothing_but_threads_of_this_process_reads_the_files(example):
    """Workers are other pods, which don't have them."""

    def refuse(*args, **kwargs):
        pytest.fail("read with the default scheduler: on the workers of a job")

    with dask.config.set(scheduler=refuse):
        trips, by_hour = example.read_and_explore(2000)
    assert len(trips) == 2000
    assert sorted(by_hour.index) == list(range(24))


def test_the_raw_data_are_not_what_the_columns_say(example, tmp_path):
    """Else nothing would have to be cleaned: pandas alone makes text of what are times and numbers."""
    example.write_raw_files(tmp_path, 2000)
    naive = {company: pd.read_csv(tmp_path / name) for company, name in (("y", "yellow-0.csv"), ("g", "green-4.csv"))}
    assert not pd.api.types.is_numeric_dtype(naive["y"]["fare"])
    assert not pd.api.types.is_numeric_dtype(naive["g"]["fare"])
    assert naive["g"]["payment"].isin(["1", "2", "4"]).mean() > 0.9
    assert naive["y"]["vendor"].str.startswith(" ").any()


def test_trips_are_the_same_each_time_and_others_in_each_part(example):
    pd.testing.assert_frame_equal(example.make_trips(100, 3), example.make_trips(100, 3))
    assert not example.make_trips(100, 3)["fare"].equals(example.make_trips(100, 4)["fare"])


def test_what_the_tip_is_known_from_is_no_feature(example):
    assert not {"tip", "good_tip", "pickup"} & set(example.FEATURES)
    assert len(example.FEATURES) == 12
