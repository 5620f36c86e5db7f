"""`python -m dask_training.cml` prints the folder that scripts for CML need in PYTHONPATH."""

import sys

from dask_training.cml import MODULES

if __name__ == "__main__":
    sys.stdout.write(f"{MODULES}\n")
