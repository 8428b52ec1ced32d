"""`aigc sample|edit|interpolate --sign` and `aigc verify`: from the command that writes to the one that reads."""

import json

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.inference.trust.signer import PictureSigner

pytest.importorskip("c2pa", reason="c2pa-python is not installed")


@pytest.fixture(autouse=True)
def keys(aigc, folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
    monkeypatch.delenv("AIGC_SIGN", raising=False)
    assert aigc("trust", "keys", "new", "--name", "Kim").code == 0


@pytest.fixture
def verified(aigc):
    def run(*files):
        done = aigc("verify", *files, "--json")
        return json.loads(done.out)

    return run


def photo(path):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)


def test_samples_are_signed_and_unsigned_ones_are_signed_later(aigc, trained, folder, verified):
    assert aigc("sample", trained, "--seeds", "0-2", "--out", "a").code == 0
    plain = {path: np.asarray(Image.open(path)) for path in folder.glob("a/*.png")}
    assert {found["manifest"]["state"] for found in verified(*plain)} == {"none"}
    assert aigc("sample", trained, "--seeds", "0-3", "--out", "a", "--grid", "--sign").code == 0
    found = verified(*sorted(folder.glob("a/*.png")))
    assert len(found) == 5 and {one["manifest"]["state"] for one in found} == {"trusted"}
    said = found[2]["manifest"]["actions"][0]
    assert said["source_type"].endswith("/trainedAlgorithmicMedia") and said["parameters"]["seeds"] == "[2]"
    assert said["parameters"]["sha256"] == found[2]["record"]["sha256"]
    assert all((np.asarray(Image.open(path)) == pixels).all() for path, pixels in plain.items())


def test_signed_samples_are_kept_and_the_environment_signs(aigc, trained, folder, monkeypatch):
    assert aigc("trust", "keys", "new", "other").code == 0
    monkeypatch.setenv("AIGC_SIGN", "other")
    assert aigc("sample", trained, "--seeds", "0-1", "--out", "a").code == 0
    before = (folder / "a" / "000000.png").read_bytes()
    assert aigc("sample", trained, "--seeds", "0-1", "--out", "a").code == 0
    assert (folder / "a" / "000000.png").read_bytes() == before  # a new manifest would differ: it has a random name
    monkeypatch.delenv("AIGC_SIGN")
    assert "valid: unchanged" in aigc("verify", "a/000000.png").out
    assert "trusted: unchanged" in aigc("verify", "a/000000.png", "--trust", "other/root.pem").out


def test_one_file_of_samples_has_no_signature(aigc, trained, folder):
    done = aigc("sample", trained, "--out", "samples.npz", "--sign")
    assert done.code == 2 and "Signatures are for pictures" in done.err and not (folder / "samples.npz").exists()


def test_edited_pictures_and_their_sheet_are_signed(aigc, folder, verified):
    photo("photo.jpg")
    assert aigc("edit", "--ops", "rotate=90", "photo.jpg", "--sign").code == 0
    result, sheet = verified("edited/photo.jpg", "edited/before_after.png")
    assert [action["action"] for action in result["manifest"]["actions"]] == ["c2pa.opened", "c2pa.edited"]
    assert result["manifest"]["state"] == sheet["manifest"]["state"] == "trusted"
    assert "trainedAlgorithmicMedia" not in json.dumps([result, sheet])


def test_walks_are_signed(aigc, trained, verified):
    assert aigc("interpolate", trained, "--seeds", "0,1", "--frames", "3", "--grid", "--sign").code == 0
    found = verified("walk.gif", "walk_strip.png", "walk_grid.png")
    assert {one["manifest"]["state"] for one in found} == {"trusted"}
    assert {one["record"]["generated"] for one in found} == {True}
    assert aigc("interpolate", trained, "--seeds", "0", "--traverse", "2", "--sign").code == 0
    assert verified("traverse.png")[0]["manifest"]["state"] == "trusted"


def test_a_failing_signature_loses_no_picture_and_is_no_success(aigc, trained, folder, monkeypatch):
    sign = PictureSigner._signed

    def failing(self, source, target, text, title, parent):
        if title == "000001.png":
            raise OSError(28, "No space left on device")
        sign(self, source, target, text, title, parent)

    monkeypatch.setattr(PictureSigner, "_signed", failing)
    done = aigc("sample", trained, "--seeds", "0-2", "--out", "a", "--sign")
    assert done.code == 1 and "Not signed: a/000001.png" in done.err
    assert "valid" not in aigc("verify", "a/000001.png").out
    monkeypatch.setattr(PictureSigner, "_signed", sign)
    assert aigc("sample", trained, "--seeds", "0-2", "--out", "a", "--sign").code == 0
    assert "trusted: " in aigc("verify", "a/000001.png").out


def test_keys_are_checked_before_anything_is_made(aigc, trained, folder, monkeypatch):
    monkeypatch.setenv("AIGC_SIGN", "nowhere")
    photo("photo.png")
    for argv in (["sample", trained], ["edit", "--ops", "flip=h", "photo.png"], ["interpolate", trained]):
        done = aigc(*argv, "--out", "out.gif" if argv[0] == "interpolate" else "out")
        assert done.code == 2 and "nowhere/key.pem cannot be read" in done.err
        assert not list(folder.glob("out/*")) and not (folder / "out.gif").exists()


def test_the_report_says_what_it_cannot_know(aigc, trained, folder):
    photo("foreign.png")
    (folder / "notes.txt").write_text("hello")
    aigc("sample", trained, "--seeds", "5", "--out", "a", "--sign")
    content = bytearray((folder / "a" / "000005.png").read_bytes())
    content[-30] ^= 1
    (folder / "broken.png").write_bytes(content)
    done = aigc("verify", "foreign.png", "notes.txt")
    assert done.code == 0 and done.out.count("record: none") == 2 and done.out.count("C2PA: no manifest") == 2
    assert done.out.count("does not mean that it is a photograph") == 2
    signed = aigc("verify", "a/000005.png")
    assert signed.code == 0 and "signed as 'Kim'" in signed.out and "seed 5" in signed.out
    assert "unknown: whether what the signer says is true" in signed.out
    broken = aigc("verify", "broken.png", "a/000005.png", "missing.png")
    assert broken.code == 1 and "broken: assertion.dataHash.mismatch" in broken.out
    assert "cannot be read: no such file" in broken.out and "says: c2pa.created" in broken.out
    assert "Kim" not in broken.out.partition("a/000005.png")[0]  # nothing that a broken manifest says is repeated


def test_a_name_from_a_stranger_reaches_no_terminal(aigc, trained, folder):
    assert aigc("trust", "keys", "new", "evil", "--name", "\x1b[2JEve\u202e").code == 0
    photo("photo.png")
    PictureSigner(folder / "evil").sign(
        folder / "photo.png", {"aigc": '{"generated": true}', "Description": "\x1b[31m"}
    )
    done = aigc("verify", "photo.png")
    assert "Eve" in done.out and "\x1b" not in done.out and "\u202e" not in done.out


def test_folders_are_searched_and_empty_ones_refused(aigc, folder, verified):
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("a/2.jpg", "a/b/1.png"):
        photo(folder / name)
    (folder / "a" / "notes.txt").write_text("no picture")
    assert [found["file"] for found in verified("a")] == ["a/2.jpg", "a/b/1.png"]
    (folder / "empty").mkdir()
    done = aigc("verify", "empty")
    assert done.code == 2 and "no pictures or films in empty" in done.err


def test_only_models_of_watermarks_mark(aigc, trained, folder):
    photo(folder / "photo.png")
    for arguments in (["edit", "--ops", "flip=h", "photo.png"], ["verify", "photo.png"]):
        done = aigc(*arguments, "--watermark", trained)
        assert done.code == 2 and "writes no watermarks" in done.err
