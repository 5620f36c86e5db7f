"""What is compared between runner, scheduler and workers, and what is said of what differs."""

import pytest

from dask_training.api import Reason
from dask_training.runner.verdict import Outcome
from dask_training.runner.versions import Comparison, compared_with, explained, own_versions, packages_of

OURS = {
    "python": "3.11",
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "cloudpickle": "3.1.2",
    "msgpack": "1.1.0",
    "toolz": "1.1.0",
    "lz4": "4.4.5",
    "joblib": "1.6.0",
    "numpy": "2.3.0",
    "scikit-learn": "1.9.1",
    "dask-training": "0.1.0",
    "lightgbm": "4.7.0",
}
BEGIN = "versions differ between runner and cluster: "
HARMLESS, VITAL = " Results may differ, or not be readable. Mend it.", " Tasks may fail or hang. Mend it."


@pytest.fixture
def comparison():
    return Comparison(OURS, cluster="cluster", fix="Mend it.")


def reply(**changes):
    """What a process answers that has the same but for `changes`."""
    return OURS | {"python": "3.11.9.final.0"} | {name.replace("_", "-"): version for name, version in changes.items()}


@pytest.mark.parametrize(
    ("scheduler", "workers", "said"),
    [
        (reply(), {"w": reply()}, ""),
        (reply(python="3.11.2.final.0"), {"w": reply(python="3.11.14.final.0")}, ""),
        # Of the scheduler only what it takes part in; a package that the runner lacks is nobody's lack.
        (reply(scikit_learn=None, joblib=None, numpy="1.0", lightgbm=None), {"w": reply(pandas="2.0")}, ""),
        # Both ends of a connection agree on a compression; without dask-training joblib's own backend is used.
        (reply(lz4=None, dask_training=None), {"w": reply(lz4=None, dask_training=None)}, ""),
        (reply(toolz="0.12"), {"w": reply()}, "toolz is 1.1.0 in the runner, 0.12 in the scheduler." + HARMLESS),
        (reply(), {"w": reply(joblib="1.5.0")}, "joblib is 1.6.0 in the runner, 1.5.0 in w." + HARMLESS),
        (reply(), {"w": reply(scikit_learn=None)}, "scikit-learn is 1.9.1 in the runner, missing in w." + HARMLESS),
        (reply(), {"w": reply(lightgbm="4.6.0")}, "lightgbm is 4.7.0 in the runner, 4.6.0 in w." + HARMLESS),
        (
            reply(python="3.12.1.final.0"),
            {"w": reply()},
            "python is 3.11 in the runner, 3.12 in the scheduler." + VITAL,
        ),
        (
            reply(distributed="2025.1.0"),
            {"w": reply(numpy="1.26", distributed="2025.1.0"), "v": reply(numpy="2.0")},
            "distributed is 2026.8.0 in the runner, 2025.1.0 in the scheduler, w;"
            " numpy is 2.3.0 in the runner, 1.26 in w; numpy is 2.3.0 in the runner, 2.0 in v." + VITAL,
        ),
        (
            reply(),
            {f"w{n}": reply(joblib="1.5.0") for n in range(6)},
            "joblib is 1.6.0 in the runner, 1.5.0 in w0, w1, w2 and 3 more." + HARMLESS,
        ),
    ],
)
def test_what_differs_is_said_in_one_line_with_who_has_what(comparison, scheduler, workers, said):
    comparison.add_scheduler(scheduler)
    for name, packages in workers.items():
        assert comparison.add_worker(name, packages) == (comparison.differs(packages) and name in ("w", "v", "w0"))
    assert comparison.summary == (BEGIN + said if said else "")
    assert comparison.is_vital == said.endswith(VITAL)


def test_what_was_seen_stays_and_is_news_once(comparison):
    assert comparison.add_worker("w", reply(joblib="1.5.0"))
    assert not comparison.add_worker("w", reply())
    assert not comparison.add_worker("v", reply(joblib="1.5.0"))
    assert comparison.add_worker("v", reply(joblib="1.4.0"))
    assert "1.5.0 in w, v; joblib is 1.6.0 in the runner, 1.4.0 in v." in comparison.summary


def test_a_line_of_many_packages_has_an_end():
    own = {f"package{n}": "1" for n in range(30)}
    comparison = Comparison(own, cluster="cluster", fix="Mend it.")
    comparison.add_worker("w", dict.fromkeys(own, "2"))
    assert "; 22 more. Results" in comparison.summary


def test_spec_packages_are_compared_by_their_names():
    wanted = compared_with(["LightGBM==4.7", "Scikit_Learn>=1", "xgboost-cpu[x]>3 ; python_version > '3'", "./a/path"])
    assert wanted[-2:] == ("lightgbm", "xgboost-cpu")
    assert wanted.count("scikit-learn") == 1
    assert {"python", "dask", "distributed", "msgpack", "cloudpickle", "toolz", "numpy", "pandas"} < set(wanted)
    assert {"scikit-learn", "joblib", "lz4", "dask-training"} < set(wanted)


def test_the_versions_of_this_process_are_those_that_it_has():
    import platform

    import sklearn

    found = own_versions(["python", "scikit-learn", "no-such-package"])
    assert found["python"] == ".".join(platform.python_version_tuple()[:2])
    assert found["scikit-learn"] == sklearn.__version__
    assert "no-such-package" not in found
    assert packages_of({}) == {}


@pytest.mark.parametrize("vital", [True, False])
@pytest.mark.parametrize("reason", [Reason.RUNNER_FAILED, Reason.COMPLETED, Reason.DEADLINE_EXCEEDED])
def test_a_failure_that_versions_may_have_caused_says_so(comparison, vital, reason):
    comparison.add_worker("w", reply(**({"dask": "2025.1"} if vital else {"joblib": "1.5.0"})))
    ended = Outcome(reason, "it ended", 1)
    told = explained(ended, comparison)
    blamed = vital and reason is Reason.RUNNER_FAILED
    assert (told != ended) == blamed
    assert told.message == ("it ended\nThe cause may be that " + comparison.summary if blamed else "it ended")
    assert explained(ended, None) is ended
