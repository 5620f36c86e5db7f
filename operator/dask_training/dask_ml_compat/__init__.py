"""dask-ml on the versions of Dask and scikit-learn that this project ships.

`install()` repairs what dask-ml 2025.1.0, its last release, can't do with them. Each module here names what it repairs,
the versions that need it and the issue upstream. A job's runner and workers call it at their start. It costs a look
into a table for each module imported, and imports nothing before dask_ml is. docs/dask-ml.md says what works.
"""

from __future__ import annotations

from dask_training.dask_ml_compat.hook import install

__all__ = ["install"]
