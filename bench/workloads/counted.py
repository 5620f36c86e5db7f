"""scikit-learn's estimators that count their fits, in whatever process those happen: a byte each in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

FOLDER = "BENCH_FITS"  # the environment variable that names the files' folder; processes inherit it
PREPROCESSING, MODEL = "preprocessing", "model"


def _count(kind: str) -> None:
    file = os.open(Path(os.environ[FOLDER], kind), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, b".")  # an append of one byte is whole, however many processes write
    finally:
        os.close(file)


def fits() -> dict[str, int]:
    """How many fits of each kind there were so far."""
    return {file.name: file.stat().st_size for file in Path(os.environ[FOLDER]).iterdir()}


class CountedPCA(PCA):
    """PCA."""

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """As PCA's."""
        _count(PREPROCESSING)
        return super().fit_transform(X, y)


class CountedColumnTransformer(ColumnTransformer):
    """ColumnTransformer."""

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """As ColumnTransformer's."""
        _count(PREPROCESSING)
        return super().fit_transform(X, y, **params)


class CountedSVC(SVC):
    """SVC."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """As SVC's."""
        _count(MODEL)
        return super().fit(X, y, sample_weight)


class CountedLogisticRegression(LogisticRegression):
    """LogisticRegression."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """As LogisticRegression's."""
        _count(MODEL)
        return super().fit(X, y, sample_weight)


class CountedGradientBoosting(GradientBoostingClassifier):
    """GradientBoostingClassifier."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None, monitor: Any = None) -> Any:
        """As GradientBoostingClassifier's."""
        _count(MODEL)
        return super().fit(X, y, sample_weight, monitor)
