"""Waiting threads sleep soon, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from aigc_lightning.core.run.waiting import limit_spinning

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize("chosen", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_a_user_has_chosen_stays(chosen, monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **chosen})
    limit_spinning()
    found = {name: os.environ[name] for name in NAMES if name in os.environ}
    assert found == (chosen or {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"})


def test_commands_decide_before_torch_is_imported():
    code = (
        "import os, sys; from aigc_lightning import cli;"
        "cli.limit_spinning = lambda: print('torch' in sys.modules) or sys.exit(0); cli.main(['models'])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
