"""The tutorial's blocks run in order, as a reader would type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent / "docs" / "plugins.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_plugin_tutorial_works(tmp_path):
    """One shell runs all blocks; what they install goes to a folder of its own and needs no network."""
    assert len(BLOCKS) >= 6
    site = tmp_path / "site"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as: no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    script = "\n".join(["set -e", *BLOCKS])
    result = subprocess.run(["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "sparkle" in result.stdout
    assert (work / "samples" / "grid.png").is_file()
