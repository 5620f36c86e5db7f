"""`python -m dask_training.handlers`: the operator."""

from dask_training.handlers.main import main

if __name__ == "__main__":
    main()
