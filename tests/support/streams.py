"""All tests in two streams at once (`pytest -n 2`): those on the cluster, which wait for much of their time, and beside
them the fast ones, then those that run processes here; and what is said at the end about tests that were left out.

Whoever is done first helps the other with the files that it has not begun.
"""

from __future__ import annotations

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

CLUSTER, PROCESSES = "tests/e2e/", "tests/local/"
ORDER = ("tests/unit/", "tests/chart/", PROCESSES, CLUSTER)  # the charts' need programs that may have to be made first
# Tests of these share more than the cluster: ports and cores, another operator, a session's image.
TOGETHER = (PROCESSES, "tests/e2e/dask_kubernetes/", "tests/e2e/session/")
SKIPPED = pytest.StashKey[str]()
_OUTPUT = "skipped"


class Streams(LoadScopeScheduling):
    """Hands out those folders as a whole, and others by the file; the first process begins with the cluster's."""

    def __init__(self, config: pytest.Config, log) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # they come in the order in which they are to begin

    def _split_scope(self, nodeid: str) -> str:
        return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid.partition("::")[0])

    def _assign_work_unit(self, node) -> None:
        is_first = node is self.nodes[0]
        if own := next((scope for scope in self.workqueue if scope.startswith(CLUSTER) == is_first), None):
            self.workqueue.move_to_end(own, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config, log):
    return Streams(config, log)


@pytest.hookimpl(trylast=True)  # what -k and -m leave
def pytest_collection_modifyitems(config, items):
    """In their folders' order; on the cluster, with several streams, files first whose tests must be alone there."""
    alone = {item.path for item in items if item.get_closest_marker("exclusive") and hasattr(config, "workerinput")}

    def place(item: pytest.Item) -> tuple[int, bool]:
        folder = next((number for number, each in enumerate(ORDER) if item.nodeid.startswith(each)), 0)
        return folder, item.path not in alone

    items.sort(key=place)


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
