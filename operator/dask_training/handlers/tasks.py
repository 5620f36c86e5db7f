"""Tasks that are to run for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NoReturn


async def first_end(tasks: Collection[asyncio.Task[None]], ended: Callable[[str], Exception]) -> NoReturn:
    """Wait for the end of one, and end them all. Raises what it ended with; else `ended` of the names of those over."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise ended(", ".join(task.get_name() for task in done))
    finally:
        for task in tasks:
            task.cancel()
