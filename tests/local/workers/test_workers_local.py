"""The workers API with processes of this machine: what CML's documentation and scripts do, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys

import psutil
import pytest
from machine import free_port, slowdown


def test_two_workers_say_hello_with_their_ids(project):
    ended = project.run(
        """
        code = '''
            import os
            print("hello from", os.environ["CDSW_ENGINE_ID"])
        '''
        launched = launch_workers(n=2, cpu=1, memory=1, code=code)
        awaited = await_workers(launched)
        result([launched, awaited, list_workers()])
        """
    )
    launched, awaited, listed = ended.result
    ids = [worker["id"] for worker in launched]
    assert len(set(ids)) == 2
    assert [ended.lines(each) for each in ids] == [[f"hello from {each}"] for each in ids]
    assert {worker["ip_address"] for worker in launched} == {"unknown"}
    assert [worker["id"] for worker in awaited["workers"]] == ids
    assert awaited["failures"] == []
    assert {worker["status"] for worker in listed} == {"succeeded"}
    assert all(worker["created_at"] <= worker["running_at"] <= worker["finished_at"] for worker in listed)
    assert all(0 <= worker["duration"] < 10 * slowdown() for worker in listed)


def test_workers_connect_to_a_master_that_listens(project):
    """The example of CML's documentation, on a free port."""
    project.write(
        "worker.py",
        """
        import os, socket
        with socket.create_connection((os.environ["CDSW_MASTER_IP"], int(os.environ["PORT"])), timeout=60) as server:
            server.sendall(f"Hello from {os.environ['CDSW_ENGINE_ID']}".encode())
            print(server.recv(100).decode())
        """,
    )
    ended = project.run(
        """
        import socket
        from dask_training import workers
        with socket.create_server(("0.0.0.0", 0)) as server:
            launched = workers.launch_workers(2, 0.5, 0.5, script="worker.py", env={"PORT": server.getsockname()[1]})
            for _ in launched:
                connection, _ = server.accept()
                with connection:
                    data = connection.recv(100)
                    connection.sendall(b"echo: " + data)
        result(workers.await_workers(launched))
        """
    )
    assert len(ended.result["workers"]) == 2
    for worker in ended.result["workers"]:
        assert ended.lines(worker["id"]) == [f"echo: Hello from {worker['id']}"]


def test_workers_empty_a_queue_of_parameters(project):
    """Each takes the next parameters as soon as it has done the last ones; each are taken once."""
    project.write(
        "search.py",
        """
        import os
        from multiprocessing.connection import Client
        from score import score
        with Client((os.environ["CDSW_MASTER_IP"], int(os.environ["PORT"])), authkey=b"queue") as queue:
            while (alpha := queue.recv()) is not None:
                queue.send((os.environ["CDSW_ENGINE_ID"], alpha, score(alpha)))
        """,
    )
    project.write("score.py", "def score(alpha):\n    return -((alpha - 3) ** 2)\n")
    ended = project.run(
        """
        from multiprocessing.connection import Listener, wait
        listener = Listener(("0.0.0.0", 0), authkey=b"queue")
        launched = launch_workers(3, cpu=1, memory=0.5, script="search.py", env={"PORT": listener.address[1]})
        free = [listener.accept() for _ in launched]
        todo, done, open_ = list(range(20)), [], list(free)
        for each in free:
            each.send(todo.pop())
        while open_:
            for each in wait(open_):
                done.append(each.recv())
                each.send(todo.pop() if todo else None)
                if len(done) > 20 - len(launched):
                    open_.remove(each)
        result([done, await_workers(launched)["failures"]])
        listener.close()
        """
    )
    done, failures = ended.result
    assert failures == []
    assert sorted(alpha for _, alpha, _ in done) == list(range(20))
    assert max(done, key=lambda each: each[2])[1] == 3
    assert len({worker for worker, _, _ in done}) == 3


def test_a_script_comes_before_code_and_imports_the_projects_modules(project):
    project.write("lib/helper.py", "NAME = 'helper'\n")
    project.write("lib/__init__.py", "")
    project.write("steps/run.py", "from lib import helper\nprint(helper.NAME, __name__)\n!echo shell line\n")
    ended = project.run(
        """
        launched = launch_workers(1, 1, 1, script="steps/run.py", code="print('never')")
        result(await_workers(launched)["workers"][0]["id"])
        """
    )
    assert ended.lines(ended.result) == ["helper __main__", "shell line"]


def test_the_environment_of_session_and_workers(project):
    ended = project.run(
        """
        names = ["ENGINE_ID", "MASTER_ID", "MASTER_IP", "IP_ADDRESS", "PROJECT", "CREATOR", "APP_PORT", "READONLY_PORT",
                 "PUBLIC_PORT", "DOMAIN"]
        code = f'''
        import json, os
        print(json.dumps([{{name: os.environ["CDSW_" + name] for name in {names}}}, os.environ["CML_MASTER_IP"],
            os.environ["OWN"], os.environ["OMP_NUM_THREADS"], os.getcwd()]))
        '''
        workers = await_workers(launch_workers(2, 1.5, 1, code=code, env={"OWN": 5}))["workers"]
        result([{name: os.environ["CDSW_" + name] for name in names}, workers])
        """
    )
    session, workers = ended.result
    said = [json.loads(ended.lines(worker["id"])[0]) for worker in workers]
    assert session["PROJECT"] == "churn"
    assert session["IP_ADDRESS"] == "127.0.0.1"
    assert session["MASTER_ID"] == session["ENGINE_ID"]
    for worker, (variables, cml_ip, own, threads, folder) in zip(workers, said, strict=True):
        assert variables["ENGINE_ID"] == worker["id"]
        assert variables["MASTER_ID"] == session["ENGINE_ID"]
        assert variables["MASTER_IP"] == variables["IP_ADDRESS"] == cml_ip == "127.0.0.1"
        assert {variables[name] == session[name] for name in ("PROJECT", "CREATOR", "DOMAIN")} == {True}
        assert worker["app_url"] == f"http://127.0.0.1:{variables['APP_PORT']}/"
        assert (own, threads, folder) == ("5", "2", str(project.folder))
    assert said[0][0]["APP_PORT"] != said[1][0]["APP_PORT"]


def test_waiting_for_readiness_and_stopping(project):
    ended = project.run(
        """
        launched = launch_workers(2, 1, 1, code="!sleep 600")
        ready = await_workers(launched, wait_for_completion=False)
        late = await_workers([worker["id"] for worker in launched], timeout_seconds=0.3)
        one = stop_workers(launched[0]["id"])
        states = [worker["status"] for worker in list_workers()]
        rest = stop_workers()
        again = stop_workers(launched[1])
        gone = await_workers(launched, wait_for_completion=False, timeout_seconds=0)
        result([ready, late, repr(one), [each.status_code for each in rest], repr(again), states, gone])
        """
    )
    ready, late, one, rest, again, states, gone = ended.result
    assert [(worker["status"], worker["ip_address"]) for worker in ready["workers"]] == [("running", "127.0.0.1")] * 2
    assert ready["failures"] == late["workers"] == []
    assert [worker["status"] for worker in late["failures"]] == ["running"] * 2
    assert "is still running after 0.3 s" in ended.out
    assert (one, rest, again) == ("[<Response [204]>]", [204], "[<Response [204]>]")
    assert states == ["stopped", "running"]
    assert [worker["status"] for worker in gone["failures"]] == ["stopped", "stopped"]


def test_a_wait_without_a_limit_is_one(project):
    """The polyfill that scripts carry around takes 0 for "do not wait at all"."""
    ended = project.run(
        """
        result(await_workers(launch_workers(1, 1, 1, code="import time; time.sleep(0.6)"), timeout_seconds=0))
        """
    )
    assert [worker["status"] for worker in ended.result["workers"]] == ["succeeded"]


def test_a_worker_that_needs_no_waiting_for_readiness_is_a_failure_then(project):
    ended = project.run(
        """
        launched = launch_workers(1, 1, 1, code="print('quick')")
        await_workers(launched)
        result(await_workers(launched, wait_for_completion=False))
        """
    )
    assert [worker["status"] for worker in ended.result["failures"]] == ["succeeded"]


def test_a_worker_over_its_memory_is_killed_and_says_so(project):
    ended = project.run(
        """
        code = "data = bytearray(400 * 2**20); import time; time.sleep(60)"
        result(await_workers(launch_workers(1, 1, 0.2, code=code))["failures"])
        """
    )
    (worker,) = ended.result
    assert worker["exit_code"] == 137
    assert "more than memory=0.2" in worker["message"]


def test_r_says_what_it_needs(project):
    ended = project.run(
        """
        try:
            launch_workers(1, 1, 1, kernel="r", code="cat(1)")
        except RuntimeError as error:
            result(str(error))
        """,
        PATH=os.path.dirname(sys.executable),  # noqa: PTH120 - a PATH
    )
    assert ended.result.startswith(
        "kernel='r' needs Rscript, and there is none on this machine: R must be in the image"
    )


RSCRIPT = """\
#!/bin/sh
echo "R runs $(basename "$1")"
cat "$1"
"""


def test_r_runs_rscript(project, tmp_path):
    """With an executable in R's place; R itself: see docs/workers.md."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "Rscript").write_text(RSCRIPT)
    (bin_folder / "Rscript").chmod(0o755)
    project.write("model.R", "print(lm(1))\n")
    ended = project.run(
        """
        launched = launch_workers(1, 0.2, 0.5, kernel="r", code="cat('hi')")
        launched += launch_workers(1, 1, 1, kernel="r", script="model.R")
        result(await_workers(launched)["workers"])
        """,
        PATH=f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
    )
    code, script = ended.result
    assert ended.lines(code["id"]) == ["R runs code.R", "cat('hi')"]
    assert ended.lines(script["id"]) == ["R runs model.R", "print(lm(1))"]


def test_workers_may_have_workers(project):
    ended = project.run(
        """
        code = '''
        from dask_training.workers import *
        await_workers(launch_workers(1, 1, 1, code="import os; print('master', os.environ['CDSW_MASTER_ID'])"))
        launch_workers(1, 1, 1, code="!sleep 600")
        '''
        result(await_workers(launch_workers(1, 1, 1, code=code))["workers"][0]["id"])
        """
    )
    assert any(line.endswith(f"master {ended.result}") for line in ended.lines(ended.result))


# How it ends.


@pytest.mark.parametrize("ending", ["", "raise ValueError('boom')", "sys.exit(3)"])
def test_the_workers_end_with_the_session(project, ending):
    """However its script ends; the fixture finds what would be left."""
    ended = project.run(
        f"""
        launched = launch_workers(2, 1, 1, code="import subprocess; subprocess.run(['sleep', '600'])")
        await_workers(launched, wait_for_completion=False)
        {ending}
        """
    )
    assert ended.code == {"": 0, "sys.exit(3)": 3}.get(ending, 1)
    assert project.left(within=2.0) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_session_that_is_killed(project, number):
    """A child of the session's, forked later, must not keep the workers alive."""
    process = project.start(
        """
        launched = launch_workers(2, 1, 1, code="import subprocess; subprocess.run(['sleep', '600'])")
        await_workers(launched, wait_for_completion=False)
        child = os.fork()
        if child:
            print("forked", child, flush=True)
        time.sleep(30)
        """
    )
    with process:
        while not (line := process.stdout.readline()).startswith("forked"):
            assert line, process.stderr.read()
        child = int(line.split()[1])
        try:
            process.send_signal(number)
            process.wait(60)
            assert project.left(within=3.0, but=child) == []
            assert psutil.pid_exists(child)
        finally:
            os.kill(child, signal.SIGKILL)


# The traps that Cloudera's own helpers fell into.


def test_trap_a_threads_follow_the_cpu_that_was_asked_for(project):
    """`dask-worker` took a thread for each CPU of the machine."""
    ended = project.run(
        """
        code = '''
        import joblib, os, subprocess, sys
        import dask_training.runner.dask_commands as commands
        print(joblib.cpu_count(), os.environ["OMP_NUM_THREADS"])
        print(subprocess.run(["which", "dask-worker"], capture_output=True, text=True).stdout.strip())
        print(commands.arguments("dask-worker", ["tcp://10.0.0.1:8786"], os.environ[commands.Env.THREADS]))
        '''
        result(await_workers(launch_workers(1, 3, 1, code=code))["workers"][0]["id"])
        """
    )
    cpus, where, arguments = ended.lines(ended.result)
    assert cpus == f"{min(3, os.cpu_count())} 3"
    assert where.endswith("/runner/commands/dask-worker")
    assert arguments == "['worker', '--nthreads', '3', 'tcp://10.0.0.1:8786']"


def test_trap_b_no_line_of_output_is_lost(project):
    """Output went to a pipe that nobody read: it was lost, and the worker stood still once the pipe was full."""
    ended = project.run(
        """
        code = '''
        import sys
        for number in range(20000):
            print(number, "x" * 20)
        sys.stdout.write("no newline at the end")
        sys.stderr.write("nor here")
        '''
        result(await_workers(launch_workers(2, 1, 1, code=code))["workers"])
        """
    )
    for worker in ended.result:
        lines = ended.lines(worker["id"])
        assert len(lines) == 20002
        assert [line.split()[0] for line in lines if "xxx" in line] == [str(number) for number in range(20000)]
        assert {"no newline at the end", "nor here"} <= set(lines)


def test_trap_c_nobody_sleeps_for_readiness(project):
    ended = project.run(
        """
        began = time.monotonic()
        launched = launch_workers(1, 1, 1, code="!sleep 600")
        await_workers(launched, wait_for_completion=False)
        result(time.monotonic() - began)
        """
    )
    assert ended.result < 3.0 * slowdown()


def test_trap_d_the_reason_is_shown_before_an_error_is_raised(project):
    project.write("train.py", "def fit():\n    raise ValueError('no rows left')\nfit()\n")
    ended = project.run(
        """
        found = await_workers(launch_workers(1, 1, 1, script="train.py"))
        if found["failures"]:
            raise RuntimeError("workers failed")
        """
    )
    assert ended.code == 1
    assert "ValueError: no rows left" in ended.out
    assert "line 2, in fit" in ended.out
    assert "failed (exit code 1): ValueError: no rows left" in ended.out


def test_trap_e_an_exception_leaves_no_worker(project):
    """See also the tests of how a session ends: here in a notebook's cell, where the session goes on."""
    ended = project.run(
        """
        try:
            launch_workers(2, 1, 1, code="!sleep 600")
            raise ValueError("in the cell")
        except ValueError:
            pass
        result([len(stop_workers()), sorted({worker["status"] for worker in list_workers()})])
        """
    )
    assert ended.result == [2, ["stopped"]]


def test_dask_worker_runs_as_cloudera_scripts_call_it(project):
    """`!dask-worker`, which Dask itself does not bring any more, with a scheduler in another worker."""
    ended = project.run(
        """
        port = PORT
        scheduler = launch_workers(1, 1, 2, code=f"!dask-scheduler --host 127.0.0.1 --port {port} --no-dashboard")
        address = f"tcp://{await_workers(scheduler, wait_for_completion=False)['workers'][0]['ip_address']}:{port}"
        launch_workers(1, 3, 2, code=f"!dask-worker {address} --no-dashboard")
        from distributed import Client
        with Client(address, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            result([list(client.nthreads().values()), client.submit(sum, [1, 2, 3]).result()])
        stop_workers()
        """.replace("PORT", str(free_port()))
    )
    assert ended.result == [[3], 6]


def test_a_dask_cluster_as_both_helpers_return_it(project):
    ended = project.run(
        """
        from distributed import Client
        cluster = run_dask_cluster(n=2, cpu=1, memory=0.5)
        with Client(cluster["scheduler_address"], timeout=60) as client:
            answer = client.submit(sum, [x for x in range(10)]).result()
            threads = sorted(client.nthreads().values())
        polled = cluster.pop("scheduler_proc").poll()
        running = [worker["status"] for worker in list_workers()]
        stopped = stop_workers()
        result([cluster, answer, threads, polled, running, len(stopped), [w["status"] for w in list_workers()]])
        """
    )
    cluster, answer, threads, polled, running, stopped, states = ended.result
    assert set(cluster) == {"scheduler", "workers", "scheduler_address", "dashboard_address"}
    assert (answer, threads, polled, stopped) == (45, [1, 1], None, 3)
    (scheduler,) = cluster["scheduler"]
    assert scheduler["app_url"] + "status" == cluster["dashboard_address"]
    assert len({each["id"] for each in [scheduler, *cluster["workers"]]}) == 3
    assert {each["ip_address"] for each in [scheduler, *cluster["workers"]]} == {"127.0.0.1"}
    assert (running, states) == (["running"] * 3, ["stopped"] * 3)


def test_a_dask_cluster_that_does_not_come_up_says_why(project):
    ended = project.run(
        """
        configure(packages=["no-such-package"])
        try:
            run_dask_cluster(num_workers=1, cpu=1, memory=0.5)
        except RuntimeError as error:
            result(str(error))
        """
    )
    assert "no-such-package is wanted, it is not installed" in ended.result
    assert "the Dask cluster did not come up: packages: no-such-package" in ended.out


# Scripts for CML, unchanged.


SIMPLE = """
import cdsw, json
worker_code = '''
              import os
              engine_id = os.environ.get('CDSW_ENGINE_ID')
              print('inside worker: {}'.format(engine_id))
              '''
workers = cdsw.launch_workers(n=2, cpu=1, memory=1, code=worker_code)
for worker in workers:
    print(worker['id'])
    print(json.dumps(worker, indent=4))
cdsw.await_workers([worker['id'] for worker in workers])
cdsw.stop_workers(*[worker['id'] for worker in workers])
"""


def aliases() -> str:
    from dask_training.cml import MODULES

    return str(MODULES)


@pytest.mark.parametrize(
    "first_line",
    ["import cdsw", "import cml.workers_v1 as cdsw", "import cml as cdsw", "from cml import workers_v1 as cdsw"],
)
def test_a_script_for_cml_runs_unchanged(project, first_line):
    script = SIMPLE.replace("import cdsw, json", f"{first_line}\nimport json")
    ended = project.run(script, prelude="", PYTHONPATH=aliases())
    assert ended.code == 0, ended.err
    ids = [line for line in ended.out.splitlines() if line.startswith("worker-")]
    assert len(ids) == 2
    assert [ended.lines(each) for each in ids] == [[f"inside worker: {each}"] for each in ids]


def test_the_aliases_folder_is_printed_for_a_shell(project):
    text = f"""
    export PYTHONPATH="$({sys.executable} -m dask_training.cml)"
    {sys.executable} -c 'import cdsw, cml.workers_v1; print(cdsw.launch_workers is cml.workers_v1.launch_workers)'
    """
    ended = project.run(f"import subprocess; subprocess.run(['sh', '-ec', {text!r}], check=True)")
    assert ended.out.strip() == "True"


def test_what_else_cdsw_has_says_that_it_is_not_here(project):
    ended = project.run(
        """
        import dask_training.cml, shutil
        import cdsw
        result([hasattr(cdsw, "track_metric"), shutil.which("dask-scheduler") is not None])
        cdsw.track_metric("accuracy", 0.9)
        """
    )
    assert ended.result == [False, True]
    assert "AttributeError: cdsw.track_metric is not here" in ended.err
    assert "dask_training.report(...)" in ended.err
