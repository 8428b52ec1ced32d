"""The check of the documentation site; `.ci/run` builds the site itself."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent.parent / "docs" / "_site" / "check.py"
pytestmark = pytest.mark.skipif(not CHECK.is_file(), reason="not a checkout")


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text(
        '<link rel="canonical" href="https://a.org/"><link rel="stylesheet" href="a.css"><a href="https://a.org/">a</a>'
        "<img src=a.png><math><mi>x</mi></math>"
    )
    (tmp_path / "a.css").write_text("b { background: url(a.png) }")
    (tmp_path / "a.js").write_text("/* https://unpkg.com/ */ const a = 'about:blank'")
    return tmp_path


def check(site):
    return subprocess.run([sys.executable, CHECK, site], capture_output=True, text=True)


def test_a_site_that_loads_its_own_files_passes(site):
    assert check(site).returncode == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.html", '<script src="https://cdn.org/a.js"></script>'),
        ("b.html", '<link rel="stylesheet" href="//fonts.org/a.css">'),
        ("b.html", '<img alt="" src="http://a.org/a.png">'),
        ("b.html", '<p style="background: url(https://a.org/a.png)">'),
        ("b.html", '<span class="arithmatex">\\(x\\)</span>'),
        ("b.css", '@import "https://a.org/a.css";'),
        ("b.css", "a { background: url(https://a.org/a.png) }"),
        ("b.js", 'load("https://unpkg.com/a.js")'),
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(name, text, site):
    (site / name).write_text(text)
    found = check(site)
    assert found.returncode == 1 and name in found.stderr


def test_a_folder_that_is_no_site_is_refused(tmp_path):
    assert check(tmp_path).returncode == 1
