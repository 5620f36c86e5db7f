"""How tests run kubectl: again, where the API server was too busy to shake hands."""

import os

import pytest
from programs import run_captured

KUBECTL = """#!/bin/sh
echo asked >> {calls}
if [ "$(wc -l < {calls})" -lt 3 ]; then
  echo "{error}" >&2
  exit 1
fi
echo ok
"""


@pytest.mark.parametrize(
    ("error", "asked", "said"),
    [("net/http: TLS handshake timeout", 3, "ok\n"), ("Error from server (NotFound)", 1, "")],
)
def test_kubectl_is_run_again_where_nothing_was_asked_yet(tmp_path, error, asked, said):
    calls, kubectl = tmp_path / "calls", tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(calls=calls, error=error))
    kubectl.chmod(0o755)
    done = run_captured(("kubectl", "get", "pods"), env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (len(calls.read_text().split()), done.stdout) == (asked, said)
