"""The option --prices: a file that says what an hour of CPU, memory and GPU costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dask_training.costs import Prices


class PricesType(click.Path):
    """A YAML or JSON file with prices, as jobs.prices of the operator's chart has them."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, readable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Prices:  # type: ignore[override]
        """Read it, and say what is not right."""
        import yaml  # noqa: PLC0415 - --help need not wait

        from dask_training.costs import Prices  # noqa: PLC0415 - as above

        path = str(super().convert(value, param, ctx))
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a path of click's
                document = yaml.safe_load(file)
            prices = Prices.read(document if isinstance(document, dict) else {"": document})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
            self.fail(f"{path}: {error}", param, ctx)
        if prices is None:
            self.fail(f"{path}: is empty: write such as {{currency: EUR, cpuHour: 0.04}}", param, ctx)
        return prices


PRICES = PricesType()
