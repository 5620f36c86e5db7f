"""`python -m dask_training.cli`."""

from dask_training.cli import main

if __name__ == "__main__":
    main()
