"""Makes the pictures of `dask-training run` in docs/images from a real run: python docs/pictures/make.py [JOB_FILE]"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from screen import Screen, Session

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
COLUMNS, ROWS = 100, 30
SECONDS = 540.0
_COUNT = re.compile(r"(\d+) of (\d+) tasks")

# Rich's own template fetches a font; a picture in a README can't, and needs none.
_TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture(screen: Screen, command: str, name: str) -> str:
    """*screen* below its *command* as SVG; *name* keeps the ids of several pictures on one page apart."""
    console = Console(
        record=True, width=screen.columns, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "dim"), command), soft_wrap=True)
    console.print(Text.from_ansi(screen.ansi()), soft_wrap=True)
    return console.export_svg(title="dask-training", theme=MONOKAI, code_format=_TEMPLATE, unique_id=name)


def middle(session: Session) -> Screen:
    """The screen when about half of the tasks of the largest call were done."""
    best, largest = float("inf"), 0
    screen = Screen(session.columns, session.rows)
    for when, text in session.chunks:
        screen.feed(text)
        found = _COUNT.search("\n".join(screen.lines).replace(",", ""))
        if found:
            done, total = int(found[1]), int(found[2])
            if total >= largest and 0.3 <= done / total <= 0.6:
                best, largest = when, total
    return session.screen(at=best)


def main(arguments: list[str]) -> int:
    """Runs the job and writes running.svg and run.svg; returns the job's exit code."""
    job = arguments[0] if arguments else "examples/quickstart/job.yaml"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / Path(job).parts[0]).symlink_to(ROOT / Path(job).parts[0])
        session = Session(
            [str(Path(sys.executable).parent / "dask-training"), "run", job],
            columns=COLUMNS,
            rows=ROWS,
            cwd=Path(folder),
        )
        code = session.wait(seconds=SECONDS)
    IMAGES.mkdir(parents=True, exist_ok=True)
    command = f"dask-training run {job}"
    for name, screen in (("running", middle(session)), ("run", session.screen())):
        (IMAGES / f"{name}.svg").write_text(picture(screen, command, name) + "\n", encoding="utf-8")
        print(f"wrote docs/images/{name}.svg")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
