"""The text of a new job file: YAML with comments, whose scripts come out of it byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml

from dask_training.api import API_VERSION, KIND
from dask_training.cli.imports import Proposal

INLINE_BYTES = 32 * 1024  # spec.runner.script
CONFIG_MAP_BYTES = 1024 * 1024  # all of a ConfigMap's data
NAME_CHARACTERS = 40

# What YAML 1.2 calls printable, less the line breaks that a reader may turn into others, and the byte order mark.
_NOT_LITERAL = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What goes into a job file; `modules` are the files of the code ConfigMap, `folders` what would not fit there."""

    name: str
    file: str
    script_name: str
    script: str
    workers: int
    memory: str
    packages: tuple[str, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    @property
    def is_inline(self) -> bool:
        """Whether the script can stand in the job itself."""
        return len(self.script.encode()) <= INLINE_BYTES and literal(self.script, 6) is not None


def job_name(stem: str) -> str:
    """A job's name from a file's: RFC 1035, at most 40 characters."""
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not name or not name[0].isalpha():
        name = f"job-{name}".strip("-")
    return name[:NAME_CHARACTERS].rstrip("-")


def config_map_key(file_name: str) -> str:
    """A ConfigMap's key from a file's name."""
    return re.sub(r"[^-._a-zA-Z0-9]", "-", file_name)


def job_file(job: Job) -> str:
    """The job file's text."""
    documents = ["\n".join([*_head(job), *_packages(job), *_code(job), *_body(job), *_runner(job)])]
    if not job.is_inline:
        documents.append(_config_map(f"{job.name}-script", {config_map_key(job.script_name): job.script}))
    if job.modules:
        documents.append(_config_map(f"{job.name}-code", job.modules))
    return "\n---\n".join(documents) + "\n"


def literal(text: str, indent: int) -> str | None:
    """*text* as a literal block scalar, its lines indented by *indent* (two more than its key); None if it can't be."""
    if not text.strip("\n") or _NOT_LITERAL.search(text):
        return None
    # Lines that start with spaces before any other would be taken for the indentation itself.
    indicator = "2" if text[0] in " \n\t" else ""
    chomping = "-" if not text.endswith("\n") else "+" if text.endswith("\n\n") else ""
    lines = text.split("\n")
    if text.endswith("\n"):
        lines.pop()
    body = "\n".join(" " * indent + line if line else "" for line in lines)
    block = f"|{indicator}{chomping}\n{body}"
    return block if _is(f"{'  ' * (indent // 2 - 1)}k: {block}\n", text) else None


def quoted(text: str, indent: int) -> str:
    """*text* as a double-quoted scalar, a line of its own for each of its lines."""
    pieces = [_escaped(piece) for piece in text.split("\n")]
    ends_with_newline = pieces[-1] == ""
    if ends_with_newline:
        pieces.pop()
    margin = " " * indent
    # A backslash before the line's end, and one before a first space: the file's own layout is not the text's.
    lines = [f"{margin}{f'{chr(92)}{piece}' if piece.startswith(' ') else piece}\\n\\" for piece in pieces]
    if not ends_with_newline:
        lines[-1] = lines[-1].removesuffix("\\n\\") + "\\"
    return "\n".join(['"\\', *lines, f'{margin}"'])


def _escaped(piece: str) -> str:
    def escape(match: re.Match[str]) -> str:
        character = match[0]
        if character in _ESCAPED:
            return _ESCAPED[character]
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return re.sub(rf'[\\"\t\r]|{_NOT_LITERAL.pattern}', escape, piece)


def _is(yaml_text: str, expected: str) -> bool:
    try:
        value = yaml.safe_load(yaml_text)
    except yaml.YAMLError:
        return False
    return bool(value == {"k": expected})


def _head(job: Job) -> list[str]:
    # A name such as "on" or "null" is none without quotes.
    name = job.name if yaml.safe_load(job.name) == job.name else json.dumps(job.name)
    file = job.file if job.file != "-" else "job.yaml"
    return [
        f"# {_comment(job.script_name)} on a Dask cluster of its own. All fields: kubectl explain dtj.spec",
        "#",
        f"#     dask-training run {_comment(file)}        on this machine",
        f"#     kubectl apply -f {_comment(file)}         on a cluster with the operator",
        f"apiVersion: {API_VERSION}",
        f"kind: {KIND}",
        "metadata:",
        f"  name: {name}",
        "spec:",
    ]


def _packages(job: Job) -> list[str]:
    certain = [*job.packages, *(proposal.requirement for proposal in job.proposals if proposal.requirement)]
    open_questions = [proposal for proposal in job.proposals if not proposal.requirement]
    if not certain and not open_questions:
        return [
            "  # What pip installs before the script starts, beside what the runtime image has:",
            '  # packages: ["lightgbm==4.6.0"]',
        ]
    lines = ["  # What pip installs before the script starts, beside what the runtime image has."]
    lines.append("  packages:" if certain else "  # packages:")
    lines += [f"    - {json.dumps(requirement, ensure_ascii=False)}" for requirement in certain]
    for proposal in open_questions:
        name = proposal.guess or proposal.module
        said = "" if proposal.guess else "; is that its name on the package index?"
        wanted = f"for 'import {_comment(proposal.module)}' in line {proposal.line}"
        lines.append(f"    # - {_comment(name)}  # {wanted}; not installed here{said}")
    return lines


def _code(job: Job) -> list[str]:
    lines = []
    if job.folders:
        folders = ", ".join(map(_comment, job.folders))
        lines += [
            f"  # {folders}: imported, but a ConfigMap holds no folders. Here: dask-training run --code FOLDER;",
            "  # on a cluster: an image with it, or a package of your own.",
        ]
    if job.modules:
        lines += [
            "  # Modules of your own, which every process can import; they stand at the end of this file.",
            f"  code: {{configMap: {{name: {job.name}-code}}}}",
        ]
    return lines


def _body(job: Job) -> list[str]:
    memory = json.dumps(job.memory)
    return [
        "  workers:",
        f"    replicas: {job.workers:<22}# scikit-learn's parallel work (n_jobs) is spread over so many",
        "    # minReplicas: 1                # start with fewer, if no more are to be had; the others join later",
        "    # threads: 1                    # of each; by default its CPU request",
        "    resources:                      # of each",
        f'      requests: {{cpu: "1", memory: {memory}}}',
        f"      limits: {{memory: {memory}}}       # one that needs more is killed and started again",
        "  artifacts:",
        "    uploadPolicy: Always            # keep logs and files of failed runs, too; or OnSuccess",
        "    # By default ./artifacts, or the operator's store:",
        '    # destination: {url: "s3://bucket/runs", secretRef: {name: s3-credentials}}',
        "  activeDeadlineSeconds: 86400      # stop after a day, whatever it is doing",
        "  # backoffLimit: 0                 # so many more attempts, each with a new cluster",
    ]


def _runner(job: Job) -> list[str]:
    lines = [
        "  runner:                           # runs the script; what it writes to $ARTIFACTS_DIR is kept",
        '    # args: [--trees, "500"]',
        '    # env: [{name: SEED, value: "0"}]',
    ]
    if job.is_inline:
        return [*lines, f"    script: {literal(job.script, 6)}"]
    key = json.dumps(config_map_key(job.script_name))
    return [
        *lines,
        "    # The script stands at the end of this file: it is too long for here, or not plain text.",
        f"    scriptFrom: {{configMap: {{name: {job.name}-script, key: {key}}}}}",
    ]


def _config_map(name: str, data: Mapping[str, str]) -> str:
    lines = ["apiVersion: v1", "kind: ConfigMap", f"metadata: {{name: {name}}}", "data:"]
    lines += [f"  {json.dumps(key)}: {literal(text, 4) or quoted(text, 4)}" for key, text in data.items()]
    return "\n".join(lines)


def config_map_bytes(data: Iterable[str]) -> int:
    """What the texts take of a ConfigMap's size."""
    return sum(len(text.encode()) for text in data)


def _comment(text: str) -> str:
    """Foreign text that can't leave its comment."""
    return "".join(character if character.isprintable() else "?" for character in text)
