"""`python -m bench.workloads.counted_process dask_worker ...`: distributed's command, in a process that counts."""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys

from bench.workloads.traffic import start_counting

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # not even a paused process outlives the benchmark
    start_counting()
    sys.argv = sys.argv[1:]
    runpy.run_module(f"distributed.cli.{sys.argv[0]}", run_name="__main__")
