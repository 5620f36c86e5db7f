"""Is it worth to use more workers? Four pieces of work, timed in one process, with loky and on the job's Dask workers.

Run it on your own cluster before you ask for 80 cores. It says in report.md how many cores there were, how the time
falls with the number of workers, what Amdahl's law makes of that, and where Dask lost.

    svc_grid        grid search of a support vector machine with probabilities, 5,000 rows: independent fits of a second
    pca_logistic    grid search of PCA and logistic regression, 10,000 rows x 500 columns: more data to send
    small_grid      grid search on 178 wines: fits of some milliseconds, where no cluster can win
    slow_increment  tasks that only wait: what is lost to the distribution itself, whatever the cores do

Files are written to the folder that the environment variable ARTIFACTS_DIR names. Without a cluster
(`python train.py`), the process and loky are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn
from joblib import Parallel, delayed, parallel_config
from matplotlib.figure import Figure
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine, make_classification
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SEED = 42
FOLDS = 3
LEVEL = 1.1  # times that differ by less than a tenth are taken for the same: each is measured once
SVC_ROWS = [1000, 2000, 4000, 8000]


@dataclass(frozen=True)
class Size:
    """How much of each piece of work there is; `full` has the sizes of the blog posts that they come from."""

    svc_rows: int
    svc_grid: dict[str, list[Any]]
    pca_shape: tuple[int, int]
    pca_grid: dict[str, list[Any]]
    wine_settings: int
    slow_tasks: int
    slow_seconds: float
    repeats: int


SIZES = {
    "small": Size(
        svc_rows=500,
        svc_grid={"C": [0.1, 1, 10], "kernel": ["rbf", "poly"]},
        pca_shape=(1000, 60),
        pca_grid={"pca__n_components": [10, 20], "logistic__C": [1e-4, 1.0], "logistic__l1_ratio": [0, 1]},
        wine_settings=16,
        slow_tasks=8,
        slow_seconds=0.15,
        repeats=1,
    ),
    "default": Size(
        svc_rows=5000,
        svc_grid={"C": [0.1, 10], "kernel": ["rbf", "poly", "sigmoid"]},
        pca_shape=(10_000, 500),
        pca_grid={"pca__n_components": [50, 100], "logistic__C": [1e-4, 1e4], "logistic__l1_ratio": [0, 1]},
        wine_settings=48,
        slow_tasks=10,
        slow_seconds=0.25,
        repeats=3,
    ),
    "full": Size(
        svc_rows=5000,
        svc_grid={
            "C": [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10],
            "kernel": ["rbf", "poly", "sigmoid"],
            "shrinking": [True, False],
        },
        pca_shape=(10_000, 500),
        pca_grid={
            "pca__n_components": [50, 100, 150, 250],
            "logistic__C": [1e-4, 1.0, 10.0, 1e4],
            "logistic__l1_ratio": [0, 1],
        },
        wine_settings=48,
        slow_tasks=10,
        slow_seconds=1.0,
        repeats=3,
    ),
}

WORKS = ["svc_grid", "pca_logistic", "small_grid", "slow_increment"]
REPORT = """\
# Is it worth to use more workers?

Measured with {cores}, with Python {python} and scikit-learn {sklearn}.
Scheduler and script use these cores, too, where they are on one of these machines. {same}
{busy}

## Where Dask won, and where it lost

{verdicts}

## All times

{works}

{times}

Speed-up is over one process, efficiency is that per worker. The first call is not in it, for which processes are
started and libraries imported; it took {first_calls}.

## Amdahl's law

{amdahl}

`parallel_share` is the share of the time that can be spread over workers, `limit` the speed-up over one worker of the
same kind that no number of workers can pass. Two points always fit the law; only three or more can speak against it.
Cores that workers share look like work that can't be spread.

Part of what can't be spread well is the refit of the best setting, a single fit. In one process it takes this much of
the time: {refits}.

## Time and rows

{rows}

CPU time of one fit of an SVC grows as rows^{exponent:.2f}; with an exponent of 2, ten times the rows take a hundred
times as long. No number of workers helps with that: a fit is one task.

## What these figures can't tell

Each time was measured once, and differences below {level:.0%} are called level. Other work on the machines counts in.
With more workers than there were, nothing was run.
"""


@dataclass(frozen=True)
class Work:
    """A piece of work that is spread over workers by joblib.

    `run` returns what must be the same wherever it ran, and how many seconds the refit of the best setting took.
    """

    title: str
    tasks: int
    run: Callable[[], tuple[list[float], float]]


def works_of(size: Size) -> dict[str, Work]:
    rows, columns = size.pca_shape
    pca_data = make_classification(
        n_samples=rows, n_features=columns, n_classes=2, n_redundant=columns // 2, random_state=SEED
    )
    svc_data = make_classification(n_samples=size.svc_rows, random_state=SEED)
    wine_data = load_wine(return_X_y=True)

    # SVC(probability=True) until scikit-learn 1.8: five fits for the probabilities, one for the model.
    svc = CalibratedClassifierCV(SVC(gamma="auto", random_state=SEED), ensemble=False)
    pca = Pipeline(
        [
            ("pca", PCA(random_state=SEED)),
            ("logistic", LogisticRegression(solver="liblinear", random_state=SEED)),  # lbfgs knows no l1
        ]
    )
    wine = make_pipeline(StandardScaler(), SVC())
    svc_grid = {f"estimator__{name}": values for name, values in size.svc_grid.items()}
    wine_grid = {"svc__C": list(np.logspace(-2, 2, size.wine_settings // 4)), "svc__gamma": [0.003, 0.01, 0.03, 0.1]}
    seconds = size.slow_seconds
    slow = f"{size.slow_tasks} tasks that wait {seconds:g} s each"
    return {
        "svc_grid": grid_search(f"SVC with probabilities, {size.svc_rows:,} rows x 20", svc, svc_grid, *svc_data),
        "pca_logistic": grid_search(
            f"PCA and LogisticRegression, {rows:,} rows x {columns}", pca, size.pca_grid, *pca_data
        ),
        "small_grid": grid_search("scaler and SVC, 178 wines", wine, wine_grid, *wine_data),
        "slow_increment": Work(slow, size.slow_tasks, lambda: (increment_slowly(size.slow_tasks, seconds), 0.0)),
    }


def grid_search(title: str, estimator: Any, grid: dict[str, list[Any]], X: np.ndarray, y: np.ndarray) -> Work:
    fits = FOLDS * int(np.prod([len(values) for values in grid.values()]))

    def run() -> tuple[list[float], float]:
        search = GridSearchCV(estimator, grid, cv=FOLDS)  # n_jobs is that of parallel_config
        search.fit(X, y)
        return search.cv_results_["mean_test_score"].tolist(), search.refit_time_

    return Work(f"{title}: {fits} fits", fits, run)


def increment_slowly(tasks: int, seconds: float) -> list[float]:
    return Parallel()(delayed(slow_increment)(number, seconds) for number in range(tasks))


def slow_increment(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number + 1


@dataclass(frozen=True)
class Workers:
    """The job's Dask workers: how many threads each has, and the cores of each machine that they are on."""

    threads: dict[str, int]
    machines: dict[str, int]

    @property
    def described(self) -> str:
        threads = sorted(set(self.threads.values()))
        cores = " + ".join(str(each) for each in self.machines.values())
        return (
            f"{counted(len(self.threads), 'worker')} of {' or '.join(map(str, threads))} thread(s) on "
            f"{counted(len(self.machines), 'machine')} with {cores} cores"
        )


def find_workers() -> Workers | None:
    """The workers of the job that this runs in; None outside of a job."""
    if "DASK_SCHEDULER_ADDRESS" not in os.environ:
        return None
    import dask_training  # noqa: PLC0415 - nothing needs it where there is no cluster

    client = dask_training.client()
    threads = {
        address: worker["nthreads"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()
    }
    return Workers(threads, dict(client.run(machine).values()))


def machine() -> tuple[str, int]:
    """What tells this machine from others (pods on one node have the same), and its number of cores."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return (boot.read_text().strip() if boot.exists() else platform.node()), os.cpu_count() or 1


@dataclass(frozen=True)
class Setting:
    """Where a piece of work runs: joblib's backend, and how many of its workers."""

    backend: str
    workers: int
    options: dict[str, Any]

    @property
    def described(self) -> str:
        return self.backend if self.backend == "sequential" else f"{self.backend}, {counted(self.workers, 'worker')}"


def settings_for(workers: Workers | None) -> Iterator[Setting]:
    """One process; 2, 4 ... processes of loky, but no more than cores or workers; 1, 2, 4 ... Dask workers."""
    cores = joblib.cpu_count()
    yield Setting("sequential", 1, {"n_jobs": 1})
    for number in steps(cores if workers is None else min(cores, len(workers.threads))):
        if number > 1:
            yield Setting("loky", number, {"n_jobs": number})
    if workers is not None:
        addresses = sorted(workers.threads)
        for number in steps(len(addresses)):
            # `workers` goes to Dask with each task; without it, all workers are used.
            yield Setting("dask", number, {"n_jobs": -1, "workers": addresses[:number]})


def steps(most: int) -> list[int]:
    """1, 2, 4 ... and `most` itself."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def measure(works: dict[str, Work], settings: list[Setting]) -> tuple[pd.DataFrame, dict[str, list[float]], list[str]]:
    """A line for each piece of work and setting; the results in one process; and which results differ elsewhere."""
    first_calls = {setting.described: first_call(setting) for setting in settings}
    lines: list[dict[str, Any]] = []
    expected: dict[str, list[float]] = {}
    differ = []
    for name, work in works.items():
        for setting in settings:
            start = time.perf_counter()
            with parallel_config(setting.backend, **setting.options):
                results, refit = work.run()
            seconds = time.perf_counter() - start
            if not np.allclose(results, expected.setdefault(name, results), rtol=1e-9, atol=0):
                differ.append(f"{name} with {setting.described}")
            line = {"work": name, "backend": setting.backend, "workers": setting.workers, "tasks": work.tasks}
            lines.append(
                line | {"seconds": seconds, "refit_seconds": refit, "first_call": first_calls[setting.described]}
            )
            print(f"{name}, {setting.described}: {seconds:.2f} s", flush=True)
    table = pd.DataFrame(lines)
    sequential = table[table["backend"] == "sequential"].set_index("work")["seconds"]
    table["speedup"] = table["work"].map(sequential) / table["seconds"]
    table["efficiency"] = table["speedup"] / table["workers"]
    return table, expected, differ


def first_call(setting: Setting) -> float:
    """Seconds of the first call: processes are started, libraries imported. No other figure has it in it."""
    start = time.perf_counter()
    with parallel_config(setting.backend, **setting.options):
        GridSearchCV(SVC(), {"C": [1, 2, 3, 4]}, cv=FOLDS).fit(*load_wine(return_X_y=True))
    return time.perf_counter() - start


def measure_rows(repeats: int) -> pd.DataFrame:
    """CPU seconds of one fit of an SVC, in this process, for more and more rows."""
    lines = []
    for rows in SVC_ROWS:
        X, y = make_classification(n_samples=rows, random_state=SEED)
        times = []
        for _ in range(repeats):
            start = time.process_time()
            SVC(gamma="auto").fit(X, y)
            times.append(time.process_time() - start)
        lines.append({"rows": rows, "cpu_seconds": min(times)})
    return pd.DataFrame(lines)


def exponent_of(table: pd.DataFrame) -> float:
    """The b of seconds = a * rows^b."""
    return float(np.polyfit(np.log(table["rows"]), np.log(table["cpu_seconds"]), 1)[0])


def fit_amdahl(table: pd.DataFrame) -> pd.DataFrame:
    """For each piece of work and backend, the share of the time that can be spread over workers, by least squares.

    Amdahl's law: with n workers, the time is that of one worker times (1 - p) + p / n, and the speed-up stays below
    1 / (1 - p). One worker is one process for loky, which takes no detour for it, and one worker for Dask.
    """
    lines = []
    for (work, backend), group in table[table["backend"] != "sequential"].groupby(["work", "backend"], sort=False):
        times = dict(zip(group["workers"], group["seconds"], strict=True))
        if backend == "loky":
            times[1] = table.query("work == @work and backend == 'sequential'")["seconds"].iloc[0]
        if len(times) < 2:
            continue
        number = np.array(sorted(times))
        faster = 1 - np.array([times[n] for n in number]) / times[1]  # = p * (1 - 1 / n)
        most = 1 - 1 / number
        share = float(np.clip(faster @ most / (most @ most), 0, 1))
        limit = 1 / (1 - share) if share < 1 else np.inf
        lines.append({"work": work, "backend": backend, "parallel_share": share, "limit": limit, "points": len(number)})
    return pd.DataFrame(lines, columns=["work", "backend", "parallel_share", "limit", "points"])


def plot(table: pd.DataFrame, amdahl: pd.DataFrame, rows: pd.DataFrame, cores: str, path: Path) -> None:
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    most = int(table["workers"].max())
    numbers = np.geomspace(1, 4 * most, 100)
    left.plot(numbers, numbers, ":", color="0.6", label="ideal")
    colours = {name: f"C{number}" for number, name in enumerate(table["work"].unique())}
    for line in amdahl.itertuples():
        points = table.query("work == @line.work and backend == @line.backend").sort_values("workers")
        dask = line.backend == "dask"
        colour = colours[line.work]
        label = f"{line.work}, {line.backend} ({line.parallel_share:.0%} parallel)"
        left.plot(points["workers"], points["speedup"], "o" if dask else "x", color=colour, label=label)
        if dask or "dask" not in set(table["backend"]):
            base = points["speedup"].iloc[0] if points["workers"].iloc[0] == 1 else 1.0
            speedup = base / (1 - line.parallel_share + line.parallel_share / numbers)
            inside = numbers <= most
            left.plot(numbers[inside], speedup[inside], "-", color=colour, linewidth=1)
            left.plot(numbers[~inside], speedup[~inside], "--", color=colour, linewidth=1, alpha=0.5)
    left.axhline(1, color="0.6", linewidth=0.8)
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter("{x:g}")
    left.set(xlabel="workers", ylabel="times as fast as one process", title=f"Speed-up; {cores}")
    left.legend(frameon=False, fontsize=8)
    right.loglog(rows["rows"], rows["cpu_seconds"], "o-", label=f"measured: rows^{exponent_of(rows):.2f}")
    quadratic = rows["cpu_seconds"].iloc[0] * (rows["rows"] / rows["rows"].iloc[0]) ** 2
    right.loglog(rows["rows"], quadratic, ":", color="0.6", label="rows^2")
    right.set_xticks(rows["rows"], [f"{number:,}" for number in rows["rows"]])
    right.minorticks_off()
    right.set(xlabel="rows", ylabel="CPU seconds", title="One fit of an SVC")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    figure.suptitle("Dashed: Amdahl's law beyond what was measured", fontsize=9, color="0.4")
    figure.savefig(path, dpi=150)


def verdict(name: str, table: pd.DataFrame) -> str:
    """One sentence on a piece of work: whether Dask's workers were worth it."""
    of_work = table[table["work"] == name]
    seconds = {
        backend: group.sort_values("workers")["seconds"].iloc[-1] for backend, group in of_work.groupby("backend")
    }
    if "dask" not in seconds:
        return f"**{name}**: Dask was not measured, for there is no cluster."
    dask = seconds.pop("dask")
    parts = []
    for backend, other in seconds.items():
        where = "one process" if backend == "sequential" else backend
        times = f"{dask:.2f} s against {other:.2f} s"
        if dask > other * LEVEL:
            parts.append(f"**lost** to {where} ({times}, {dask / other:.1f} times as long)")
        elif other > dask * LEVEL:
            parts.append(f"beat {where} ({times}, {other / dask:.1f} times as fast)")
        else:
            parts.append(f"was level with {where} ({times})")
    return f"**{name}**: Dask {', and '.join(reversed(parts))}."


def report_of(
    works: dict[str, Work],
    table: pd.DataFrame,
    amdahl: pd.DataFrame,
    rows: pd.DataFrame,
    cores: str,
    load: float,
    differ: list[str],
) -> str:
    columns = ["work", "backend", "workers", "seconds", "speedup", "efficiency"]
    two_digits = dict.fromkeys(columns[3:], "{:.2f}")
    first = table.drop_duplicates(["backend", "workers"]).itertuples()
    one_process = table[table["backend"] == "sequential"].itertuples()
    return REPORT.format(
        cores=cores,
        python=platform.python_version(),
        sklearn=sklearn.__version__,
        same=f"RESULTS DIFFER: {', '.join(differ)}." if differ else "The results are the same everywhere.",
        verdicts="\n".join(f"- {verdict(name, table)}" for name in works),
        works="\n".join(f"- **{name}**: {work.title}" for name, work in works.items()),
        times=markdown(table[columns], two_digits),
        first_calls=", ".join(f"{line.backend} ({line.workers}): {line.first_call:.1f} s" for line in first),
        amdahl=markdown(amdahl, {"parallel_share": "{:.1%}", "limit": "{:.1f}"})
        if len(amdahl)
        else "One worker: no law.",
        refits=", ".join(f"{line.work} {line.refit_seconds / line.seconds:.1%}" for line in one_process),
        rows=markdown(rows, {"cpu_seconds": "{:.3f}"}),
        exponent=exponent_of(rows),
        level=LEVEL - 1,
        busy=busy_with(load),
    )


def busy_with(load: float) -> str:
    """What the reader must know of other work, where the script runs, before the measurement began."""
    said = f"When this began, {load:.1f} processes ran or waited for a core where the script runs."
    if load > (os.cpu_count() or 1) / 2:
        said += (
            " **That is too much: the times tell of that work, not of the backends. Measure again when it is quiet.**"
        )
    return said


def markdown(table: pd.DataFrame, formats: dict[str, str]) -> str:
    shown = table.assign(**{name: table[name].map(text.format) for name, text in formats.items()})
    cells = [list(shown.columns), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time four pieces of work in one process, with loky and with Dask.")
    size = parser.add_mutually_exclusive_group()
    for name, text in (("small", "a few seconds"), ("full", "the sizes of the blog posts")):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=text)
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS, metavar="WORK", help=", ".join(WORKS))
    parser.set_defaults(size="default")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    artifacts = Path(os.environ["ARTIFACTS_DIR"])
    size = SIZES[arguments.size]
    works = {name: work for name, work in works_of(size).items() if name in arguments.only}
    workers = find_workers()
    cores = workers.described if workers else f"one machine with {joblib.cpu_count()} cores and no cluster"
    load = os.getloadavg()[0]
    print(f"{cores}, load average {load:.1f}", flush=True)

    table, results, differ = measure(works, list(settings_for(workers)))
    rows = measure_rows(size.repeats)
    amdahl = fit_amdahl(table)

    table.to_csv(artifacts / "benchmark.csv", index=False)
    amdahl.to_csv(artifacts / "amdahl.csv", index=False)
    rows.to_csv(artifacts / "svc_rows.csv", index=False)
    plot(table, amdahl, rows, cores, artifacts / "speedup.png")
    report = report_of(works, table, amdahl, rows, cores, load, differ)
    (artifacts / "report.md").write_text(report)
    last = table.query("backend != 'sequential'").groupby(["work", "backend"]).last()["speedup"]
    metrics = {
        "workers": len(workers.threads) if workers else 0,
        "cores": sum(workers.machines.values()) if workers else joblib.cpu_count(),
        "differing_results": len(differ),
        "svc_exponent": exponent_of(rows),
        "tasks": sum(work.tasks for work in works.values()),
        **{f"{name}_best": max(values) for name, values in results.items()},
        **{f"{work}_speedup_{backend}": float(speedup) for (work, backend), speedup in last.items()},
    }
    (artifacts / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print("\n".join(verdict(name, table) for name in works), flush=True)


if __name__ == "__main__":
    main()
