"""What ParallelPostFit, Incremental and the searches are: a classifier if their estimator is one.

scikit-learn asks that by `__sklearn_tags__` since 1.6, which dask_ml lacks: scoring="roc_auc" gives nan or fails, and
folds aren't stratified. https://github.com/dask/dask-ml/issues/1002 (scikit-learn 1.6) mended only imports.
"""

from __future__ import annotations

from copy import deepcopy
from types import ModuleType
from typing import Any

from sklearn.base import BaseEstimator

from dask_training.dask_ml_compat.versions import needs_repair


def repair(module: ModuleType) -> None:
    """Repair dask_ml.wrappers or dask_ml.model_selection._search."""
    if not needs_repair(scikit_learn="1.6"):
        return
    owner = module.DaskBaseSearchCV if module.__name__.endswith("._search") else module.ParallelPostFit
    if "__sklearn_tags__" not in vars(owner):
        owner.__sklearn_tags__ = _tags_with_those_of_the_estimator(owner)
        if not hasattr(owner, "classes_"):
            owner.classes_ = _Classes()


class _Classes:
    """What scorers ask a classifier for: the fitted estimator's, where fit has not copied them."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            raise AttributeError("classes_")
        return instance._postfit_estimator.classes_  # noqa: SLF001 - dask_ml's own name for it


def _tags_with_those_of_the_estimator(owner: Any) -> Any:
    def __sklearn_tags__(self: Any) -> Any:  # noqa: N807 - scikit-learn's name
        from sklearn.utils import get_tags  # noqa: PLC0415 - not there before 1.6

        tags = super(owner, self).__sklearn_tags__()
        if isinstance(self.estimator, BaseEstimator):  # it may be a future, or not set
            inner = get_tags(self.estimator)
            tags.estimator_type = inner.estimator_type
            tags.classifier_tags = deepcopy(inner.classifier_tags)
            tags.regressor_tags = deepcopy(inner.regressor_tags)
        return tags

    return __sklearn_tags__
