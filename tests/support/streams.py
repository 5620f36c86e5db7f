"""All tests in three streams at once (`pytest -n 3`): those on the cluster, which wait most of their time, those that
run processes here, and the fast ones; and what is said at the end about tests that were left out.

Tests of the first two keep their order and have one stream each: they share a cluster, or ports and cores.
"""

from __future__ import annotations

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

STREAMS = ("tests/e2e/", "tests/local/")
SKIPPED = pytest.StashKey[str]()
_OUTPUT = "skipped"


class Streams(LoadScopeScheduling):
    """Hands out each stream as a whole, and other tests by the file."""

    def __init__(self, config: pytest.Config, log) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # they come in the order in which they are to begin

    def _split_scope(self, nodeid: str) -> str:
        stream = next((each for each in STREAMS if nodeid.startswith(each)), None)
        return stream or super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return Streams(config, log)


@pytest.hookimpl(trylast=True)  # what -k and -m leave
def pytest_collection_modifyitems(config, items):
    """The slowest stream begins first, or comes last where all tests run one after the other."""

    def place(item: pytest.Item) -> int:
        return next((n for n, each in enumerate(STREAMS) if item.nodeid.startswith(each)), len(STREAMS))

    items.sort(key=place, reverse=not hasattr(config, "workerinput"))


def skip(config: pytest.Config, line: str) -> None:
    """Has this line shown at the end; where all tests are required, as in CI, it makes the session fail."""
    config.stash[SKIPPED] = line
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OUTPUT] = line


def pytest_testnodedown(node):
    """A stream has ended: what it was told to skip is the whole session's to tell."""
    if line := getattr(node, "workeroutput", {}).get(_OUTPUT):
        node.config.stash[SKIPPED] = line


def pytest_terminal_summary(terminalreporter, config):
    if SKIPPED in config.stash:
        terminalreporter.write_line(config.stash[SKIPPED], yellow=True)


def pytest_sessionfinish(session):
    if SKIPPED in session.config.stash and os.environ.get("DASK_TRAINING_REQUIRE_E2E"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
