"""A scheduler that is told to end ends, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from machine import slowdown

# Stands still where distributed waits for the last words of its workers, and where it imports for the dashboard.
PROGRAM = """
import asyncio, importlib, time
from dask_training.runner import scheduler

async def stand_still(self, **_):
    await asyncio.Event().wait()

def import_slowly(name, *package):
    if name == "distributed.dashboard.scheduler":
        print("imports", flush=True)
        time.sleep(600)
    return import_module(name, *package)

import_module = importlib.import_module
scheduler.Scheduler.close = stand_still
importlib.import_module = import_slowly
options = scheduler.SchedulerOptions(host="127.0.0.1", dashboard=True)
scheduler.run(scheduler.serve(options, lambda _: None))
"""


def test_it_waits_neither_for_a_silent_worker_nor_for_its_imports(tmp_path):
    environment = os.environ | {"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "imports\n"
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert 1 < time.monotonic() - told < 4 * slowdown(), "workers have a moment to hear of it"
    finally:
        process.kill()
        process.communicate()
