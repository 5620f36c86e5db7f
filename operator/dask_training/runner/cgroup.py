"""What the kernel says of this container's memory: how often it killed for lack of it. cgroup v2 and v1."""

from __future__ import annotations

from pathlib import Path

_FILES = (
    "sys/fs/cgroup/memory.events",
    "sys/fs/cgroup/memory/memory.oom_control",
)


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes of this container the kernel has killed for lack of memory; 0 where it does not say."""
    for file in _FILES:
        try:
            lines = (root / file).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
