"""What is said where files can't be kept."""

import pytest

from dask_training.api import ExitCode, Reason
from dask_training.errors import ArtifactError
from dask_training.model import TrainingJob
from dask_training.runner.attempt_record import AttemptRecord
from dask_training.runner.keeping import Keeper, Place
from dask_training.runner.verdict import Outcome
from dask_training.runner.workspace import Workspace

WORDS = "s3://models: InvalidAccessKeyId"


class ClosedStore:
    """Opens after some tries; never, unless told."""

    def __init__(self, opens_after=float("inf")):
        self.opens_after, self.tries = opens_after, 0

    def check_writable(self):
        self.tries += 1
        if self.tries <= self.opens_after:
            raise ArtifactError(WORDS)


@pytest.fixture
def keeper(tmp_path):
    return keeper_of(ClosedStore(), tmp_path)


def keeper_of(store, tmp_path):
    body = {"metadata": {"name": "job", "namespace": "ml", "uid": "u"}, "spec": {"runner": {"script": "pass"}}}
    place = Place(store, "ml/job/u/1")
    job, workspace = TrainingJob.from_body(body), Workspace(tmp_path)
    return Keeper(job, 1, workspace, lambda _: None, place=place, fallback=None, lost="Nothing is kept.")


@pytest.mark.parametrize("noticed", [True, False], ids=["in time", "after the code's end"])
def test_a_store_that_was_found_closed_is_named_once_whenever_the_code_ends(keeper, noticed):
    closed = keeper.check()
    assert closed.message == WORDS
    outcome = closed if noticed else Outcome(Reason.COMPLETED, "the code ran to its end", ExitCode.OK, 0)
    outcome, kept = keeper.keep(outcome, {"accuracy": 0.9}, AttemptRecord(started=0.0, startup=1.0), hurried=False)
    assert outcome.reason is Reason.ARTIFACT_STORE_FAILED
    assert outcome.message.count(WORDS) == 1
    assert outcome.message.endswith("Nothing is kept.")
    assert kept.stored is None
    assert kept.metrics == {"accuracy": 0.9}


def test_a_failure_of_the_code_is_told_before_that_of_the_store(keeper):
    keeper.check()
    failed = Outcome(Reason.RUNNER_FAILED, "ValueError: bad rows", 1, 1)
    outcome, _ = keeper.keep(failed, {}, AttemptRecord(started=0.0, startup=1.0), hurried=False)
    assert (outcome.reason, outcome.exit_code) == (Reason.RUNNER_FAILED, 1)
    assert outcome.message == f"ValueError: bad rows\n{WORDS}\nNothing is kept."


def test_a_store_that_opens_a_moment_later_is_waited_for_with_patience_alone(tmp_path):
    assert keeper_of(ClosedStore(opens_after=1), tmp_path).check() is not None
    store = ClosedStore(opens_after=1)
    assert keeper_of(store, tmp_path).check(patience=60) is None
    assert store.tries == 2
    never = keeper_of(ClosedStore(), tmp_path).check(patience=0.2)
    assert (never.reason, never.message) == (Reason.ARTIFACT_STORE_FAILED, WORDS)
