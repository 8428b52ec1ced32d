"""Editors that packages provide by name, or for files with a suffix."""

import pytest

from aigc_lightning import UserError
from aigc_lightning.inference.standalone import standalone_editor

EDITORS = """
from aigc_lightning import ImageSpec, UserError

class Brighter:
    '''Adds light.'''

    spec, size_multiple = ImageSpec(3, 8, 8), 1

    def __init__(self, device):
        self.device = device

    def edit(self, images, *, amount: float = 0.5, scale: int = 1):
        return (images + amount).repeat_interleave(scale, -1).repeat_interleave(scale, -2)

class Reader(Brighter):
    '''Reads files.'''

    def __init__(self, path, device):
        super().__init__(device)
        if path.read_text() != "good":
            raise UserError("The file is bad.", "Give another.")

class NoEditor(Brighter):
    '''Cannot be built.'''

    def __init__(self, device):
        raise UserError("A library is missing.", "Install it.")
"""


@pytest.fixture
def editors(site):
    points = {"brighter_one": "editor_fakes:Brighter", ".net": "editor_fakes:Reader", "none": "editor_fakes:NoEditor"}
    site.install("aigc-editor-fakes", {"editors": points}, {"editor_fakes.py": EDITORS}, marked=False)


@pytest.mark.usefixtures("editors")
def test_names_and_files_are_told_apart(folder):
    for name in ("brighter_one", "Brighter-One", "aigc-editor-fakes:brighter_one"):
        found = standalone_editor(name, "cpu")
        assert found is not None and found[1] == {"method": "brighter_one"} and found[0].device.type == "cpu"
    (folder / "a.net").write_text("good")
    found = standalone_editor("a.net", "cpu")
    assert found is not None and found[1]["checkpoint"] == "a.net" and len(str(found[1]["sha256"])) == 16
    for other in ("b.net", "runs/1", ".net", "brighter", "https://example.org/a.net", "a.ckpt"):
        assert standalone_editor(other, "cpu") is None
    (folder / "brighter_one").mkdir()  # it may be a run
    assert standalone_editor("brighter_one", "cpu") is None


@pytest.mark.usefixtures("editors")
def test_errors_of_editors_are_errors_of_the_user(folder):
    (folder / "a.net").write_text("bad")
    with pytest.raises(UserError, match="file is bad"):
        standalone_editor("a.net", "cpu")
    with pytest.raises(UserError, match="library is missing"):
        standalone_editor("none", "cpu")
    with pytest.raises(UserError, match="no device"):
        standalone_editor("brighter_one", "toaster")
