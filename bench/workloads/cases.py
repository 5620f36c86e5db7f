"""What is measured: the blogs' examples by name, each under its contenders on clusters of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.backends import LOKY, OURS, UPSTREAM
from bench.workloads.searches import Loop, Workload, pca_logistic, svc, taxi, wine

SEQUENTIAL, DASK_ML, DASK_ML_ALONE = "sequential", "dask_ml", "dask_ml alone"
JOBLIB = (SEQUENTIAL, LOKY, UPSTREAM, OURS)
TITLES = {
    SEQUENTIAL: "sequential",
    LOKY: "loky",
    UPSTREAM: "joblib's Dask backend",
    OURS: "our Dask backend",
    DASK_ML: "dask_ml's search",
    DASK_ML_ALONE: "dask_ml's search, no cluster",
}
ON_CLUSTER = {UPSTREAM, OURS, DASK_ML}

Layout = tuple[int, int]  # workers, threads of each
LAYOUTS: tuple[Layout, ...] = ((1, 1), (2, 1), (4, 1))


@dataclass(frozen=True)
class Case:
    """One example; `busy`: its tasks need a core each, so that more workers than cores bring nothing."""

    name: str
    title: str
    about: str
    make: Callable[[], Workload]
    quick: Callable[[], Workload]
    contenders: tuple[str, ...]
    layouts: tuple[Layout, ...] = LAYOUTS
    rounds: int = 3
    busy: bool = True


CASES = (
    Case(
        "svc",
        "The 5,000-row SVC grid",
        """T. Augspurger's of 2020: "around 19 minutes" on a laptop, "14 seconds" on a cluster of 80 cores, 1.5 s for
one estimator. 80 cores were not run here. `SVC(gamma="auto")` on `make_classification(5000)`, 12 candidates, 3 folds,
without `probability=True`, so that it takes seconds.""",
        partial(svc, 5000, [0.1, 0.5, 1.0, 5.0]),
        partial(svc, 200, [0.5, 1.0]),
        (*JOBLIB, DASK_ML),
    ),
    Case(
        "pca",
        "PCA + LogisticRegression, 10,000 x 500",
        """M. Rocklin's of 2017: "around 40 seconds" with scikit-learn, "around 10 seconds" with dask-learn (dask_ml's
search today) on a laptop's processes, and "about 30% faster" in a single process, as it fits each PCA once for a fold.
His grid: 3 numbers of components, 3 of C, penalties l1 and l2, on `make_classification(10000, 500, n_redundant=250)`;
solver liblinear, as today's default takes no l1.""",
        partial(pca_logistic, 10_000, 500, [50, 100, 250]),
        partial(pca_logistic, 200, 10, [2, 3]),
        (*JOBLIB, DASK_ML, DASK_ML_ALONE),
    ),
    Case(
        "slowinc",
        "The slow-increment loop",
        """M. Rocklin's of 2017: `slowinc` sleeps and adds one; ten of a second take 10 s in a loop and 3 s with
`n_jobs=4`; then `range(100)` on a cluster. Here range(100) with 50 ms each. Sleeping needs no core: this is what the
backends themselves can do, with 4 workers, and with 4 of 2 threads.""",
        partial(Loop, 100, 0.05),
        partial(Loop, 10, 0.02),
        JOBLIB,
        layouts=(*LAYOUTS, (4, 2)),
        rounds=2,
        busy=False,
    ),
    Case(
        "taxi",
        "The taxi pipeline",
        """T. Augspurger's of 2020: a ColumnTransformer and gradient boosting, 12 candidates, 3 folds: "3 tasks for all
the pre-processing", 36 for the boosting. 8,000 generated rides, 20 trees; counted are the fits themselves, in whichever
process they happen, the refit of the best among them.""",
        partial(taxi, 8_000, 20),
        partial(taxi, 300, 2),
        (*JOBLIB, DASK_ML, DASK_ML_ALONE),
    ),
    Case(
        "wine",
        "144 fits on 178 bottles of wine",
        """What people try first (F. Lam's repository shows 7.1 s with loky and 37.1 s with Dask for 144 fits on such
data). 48 candidates of scaler and SVC, 3 folds: each fit takes a few milliseconds.""",
        partial(wine, [0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0]),
        partial(wine, [0.5, 1.0]),
        (*JOBLIB, DASK_ML),
        rounds=5,
    ),
)
