import logging
import os
import random
import sys

import pytest

from aigc_lightning.data import console
from aigc_lightning.data.folders.find_images import find_images
from aigc_lightning.data.folders.litter import is_litter, is_litter_path
from aigc_lightning.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_names_come_in_the_order_of_whole_paths(tmp_path):
    letters = ["a", "a-", "a.", "a!", "ab", "b", "é", "\u6f22", os.fsdecode(b"\xff")]
    draw = random.Random(0)
    names = {
        "/".join([*draw.choices(letters, k=draw.randint(0, 3)), f"{draw.choice(letters)}.png"]) for _ in range(200)
    }
    touch(tmp_path, *names)
    assert list(find_images(tmp_path).names) == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        *(".hidden.png", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "lost+found", "__MACOSX"),
        *(".ipynb_checkpoints", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "Icon\r"),
    ],
)
def test_litter_is_neither_an_image_nor_a_class(tmp_path, name):
    touch(tmp_path, "cat/a.png", f"{name}/b.png", f"cat/{name}/SYNOPHOTO_THUMB.png")
    found = find_images(tmp_path)
    assert list(found.names) == ["cat/a.png"] and not found.others and not found.passed_over
    assert is_litter(name) and is_litter_path(f"./x/{name}/y.png") and not is_litter_path("./x/y.png")


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_links_to_themselves_or_to_nothing_and_pipes_stop_nothing(tmp_path, caplog):
    touch(tmp_path, "a.png")
    for name, target in (("self.png", "self.png"), ("loop", "loop"), ("gone.png", "nowhere"), ("up", "..")):
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = find_images(tmp_path / "inner" / "back")
    assert list(found.names) == ["a.png", "gone.png", "self.png"]  # reading says what is wrong with the two
    assert dict(found.passed_over) == {
        "loop": "too many levels of symbolic links",
        "pipe.png": "it is not a regular file",
    }
    assert "Skipped in" in caplog.text and "loop" in caplog.text and "pipe.png" in caplog.text


def test_folders_that_cannot_be_listed_are_passed_over(tmp_path, monkeypatch, caplog):
    touch(tmp_path, "a/x.png", "b/x.png", "c/x.png")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with caplog.at_level(logging.WARNING):
        found = find_images(tmp_path)
    assert list(found.names) == ["a/x.png", "c/x.png"] and found.passed_over == [("b/", "permission denied")]
    assert "b/ (permission denied)" in caplog.text
    with pytest.raises(UserError, match="cannot be listed: Permission denied"):
        find_images(tmp_path / "b")


@pytest.mark.skipif(sys.platform != "linux", reason="paths of this depth")
def test_folders_may_be_nested_more_deeply_than_functions(tmp_path, monkeypatch):
    depth = sys.getrecursionlimit() + 200
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("a.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert list(find_images(tmp_path).names) == ["d/" * depth + "a.png"]
    names = ["d"] * depth  # what removes the test's folder works by recursion
    while names:
        monkeypatch.chdir(os.path.join(tmp_path, *names[:-1]))
        for name in os.listdir(names[-1]):
            (os.rmdir if name == "d" else os.unlink)(os.path.join(names[-1], name))
        os.rmdir(names.pop())
    monkeypatch.chdir("/")


def test_other_files_are_counted_by_their_endings(tmp_path):
    touch(tmp_path, "a.PNG", "b.txt", "c.TXT", "d.psd", "README")
    found = find_images(tmp_path)
    assert list(found.names) == ["a.PNG"] and found.example == "README"
    assert found.others == {".txt": 2, ".psd": 1, "": 1}


def test_files_are_not_asked_for_their_status(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{number}.png" for number in range(50)))
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda *given, **options: asked.append(given) or stat(*given, **options))
    assert len(find_images(tmp_path).names) == 50 and len(asked) < 20  # the folder and those around it


def test_long_listings_show_how_many_files_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "_PATIENCE_S", -1.0)
    touch(tmp_path, *(f"{number}.png" for number in range(50)))
    find_images(tmp_path)
    assert "Listing" in (error := capsys.readouterr().err) and "50" in error
