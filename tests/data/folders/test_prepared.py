import json
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.data.decode import decode
from aigc_lightning.data.folders import preparing
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.prepared_format import Protocol
from aigc_lightning.data.folders.unpaired_images import UnpairedImages
from aigc_lightning.data.inspection.inspect import inspect
from aigc_lightning.errors import UserError


def fill(root, numbers, folder="a"):
    """Write pictures of two colours that tell their number."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = Image.new("RGB", (19, 13), (number, 0, 90))
        picture.paste((255 - number, 200, 0), (3, 2, 9, 8))
        picture.save(root / folder / f"{number:03d}.{'jpg' if number % 2 else 'png'}")


@pytest.fixture
def root(tmp_path):
    """Twenty images in two classes, and a file that is none."""
    fill(tmp_path / "images", range(10), "a")
    fill(tmp_path / "images", range(10, 20), "b")
    (tmp_path / "images" / "a" / "bad.png").write_bytes(b"no image")
    return tmp_path / "images"


def made(root, name="out", *options):
    target = root.parent / name
    assert prepare([str(root), str(target), "--size", "8", "--workers", "1", *options]) == 0
    return target


def folder(root, **options):
    return ImageFolder(root, **{"size": 8, "max_bad": 0.1, "val_share": 0.3, **options})


def everything(data):
    """Return images and labels of both parts."""
    sources = [data.train_source(), data.val_source()]
    return [(source.images(range(len(source))), source.labels(range(len(source)))) for source in sources]


def assert_same(root, target, **options):
    for (images, labels), (again, labels_again) in zip(
        everything(folder(root, **options)), everything(folder(target, **options)), strict=True
    ):
        assert torch.equal(images, again)
        assert labels is labels_again is None or torch.equal(labels, labels_again)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_a_prepared_folder_gives_what_the_folder_gives(root, channels, resize):
    target = made(root, "out", "--channels", str(channels), "--resize", resize)
    assert_same(root, target, channels=channels, resize=resize)
    assert folder(target, channels=channels, resize=resize).spec == folder(root, channels=channels).spec


def test_so_it_does_with_splits_by_folder_and_without_classes(root):
    for name in ("train", "val"):
        fill(root / name, range(30, 36))
    target = made(root)
    assert_same(root, target, classes="none")
    assert len(folder(target).train_source()) == 6


@pytest.mark.slow
def test_several_processes_make_the_same(root):
    assert_same(root, made(root, "out", "--workers", "2"))


def test_bad_files_are_named_and_counted(root, capsys):
    target = made(root)
    assert "Left out a/bad.png: it is none of" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1 of 21 images in .*images cannot be read.*\n?.*bad\.png"):
        folder(target, max_bad=0).train_source()


def test_a_link_to_nothing_is_a_bad_file(root, capsys):
    (root / "a" / "gone.png").symlink_to("nowhere")
    target = made(root)
    assert "Left out a/gone.png: no such file or directory" in capsys.readouterr().out
    assert len(folder(target).train_source()) + len(folder(target).val_source()) == 20
    (root / "a" / "gone.png").unlink()
    fill(root, [50], "a")
    (root / "a" / "050.png").rename(root / "a" / "gone.png")
    assert made(root) == target
    assert len(folder(target).train_source()) + len(folder(target).val_source()) == 21


def test_what_was_interrupted_is_refused_and_goes_on(root, monkeypatch, capsys):
    monkeypatch.setattr(preparing, "_AT_ONCE", 4)
    read = []

    def break_off(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "decode", lambda *given, **options: read.append(given) or decode(*given, **options))
    target = root.parent / "out"
    protocol = Protocol(root.resolve(), (3, 8, 8), "crop")
    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(protocol, target, 1, break_off)
    with pytest.raises(UserError, match="is incomplete") as error:
        folder(target).train_source()
    assert error.value.hint.endswith(f": aigc data prepare {root} {target} --size 8")
    with (target / "files.jsonl").open("a") as log:
        log.write('["b/019.jpg", 1')  # as a crash in the middle of a line leaves it
    read.clear()
    assert preparing.prepare(protocol, target, 1).made == 13 == len(read)
    assert_same(root, target)


def test_what_is_out_of_date_is_refused_and_brought_up_to_date(root, capsys):
    target = made(root)
    fill(root, [5, 50], "b")
    (root / "a" / "002.png").unlink()
    Image.new("RGB", (9, 9), "red").save(root / "a" / "003.jpg")
    with pytest.raises(UserError, match=r"has changed since .* was prepared: 4 of its files"):
        folder(target).train_source()
    capsys.readouterr()
    made(root)
    assert "; 3 files read." in capsys.readouterr().out
    assert_same(root, target)
    assert (target / "images.u8").stat().st_size == 21 * 3 * 8 * 8  # the row of what was removed is used again


def test_a_run_with_a_changed_source_checks_it_once(root, aigc):
    target = made(root)
    (root / "a" / "002.png").unlink()
    done = aigc("fit", "--model", "dcgan", "--data", "image_folder", "--data.root", target, "--data.size", 8)
    assert done.code == 2 and "has changed since" in done.err
    assert done.err.count("checking it for changes") == 1


def test_without_its_source_a_prepared_folder_is_taken_as_it_is(root):
    target = made(root)
    root.rename(root.parent / "elsewhere")
    assert len(folder(target).train_source()) + len(folder(target).val_source()) == 20


def test_it_is_made_in_an_empty_folder_and_for_one_size(root, tmp_path):
    target = made(root)
    with pytest.raises(UserError, match="was prepared as 8x8 RGB, crop, but the data is configured as 16x16 RGB, pad"):
        folder(target, size=16, resize="pad").train_source()
    with pytest.raises(UserError, match="was prepared from"):
        prepare([str(root), str(target), "--size", "9", "--workers", "1"])
    with pytest.raises(UserError, match="is not empty"):
        prepare([str(root), str(root), "--size", "8"])
    with pytest.raises(UserError, match="which only image_folder can read"):
        UnpairedImages(target, size=8).train_source()


def test_damage_is_an_error_and_no_crash(root):
    target = made(root)
    source = folder(target).train_source()
    source.images([0])
    os.truncate(target / "images.u8", 100)
    with pytest.raises(UserError, match="has been truncated"):
        source.images([13])
    with pytest.raises(UserError, match="missing or too short"):
        folder(target).train_source()
    (target / "prepared.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be used: KeyError"):
        folder(target).train_source()


@pytest.mark.parametrize("name", ["prepared.json", "files.jsonl", "images.u8"])
def test_a_flipped_bit_is_named_or_changes_nothing(name, root):
    target = made(root)
    root.rename(root.parent / "elsewhere")  # with it, changed names and times would be noticed anyway
    whole, data = everything(folder(target)), (target / name).read_bytes()
    named = 0
    for place in range(0, len(data), 1 + len(data) // 300):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (target / name).write_bytes(flipped)
        try:
            found = everything(folder(target))
        except UserError as error:
            assert name in error.what or "was prepared as" in error.what, error
            named += 1
        else:
            for (images, labels), (again, labels_again) in zip(whole, found, strict=True):
                assert torch.equal(images, again) and torch.equal(labels, labels_again), place
    assert named > (0.7 if name == "prepared.json" else 0.95) * min(len(data), 150)


@pytest.mark.parametrize("name", ["files.jsonl", "images.u8"])
def test_what_is_damaged_is_prepared_again_and_nothing_else(name, root, capsys):
    target = made(root)
    data = bytearray((target / name).read_bytes())
    place = data.index(b"a/004.png") if name == "files.jsonl" else 7 * 3 * 8 * 8 + 5
    data[place] ^= 1
    (target / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name} is damaged: .*\n.*aigc data prepare. again"):
        everything(folder(target))
    capsys.readouterr()
    made(root)
    assert "; 1 file read." in capsys.readouterr().out
    assert_same(root, target)


def test_a_folder_that_version_0_1_prepared_is_read_with_a_word_and_gets_its_checksums(root, caplog, capsys):
    target = made(root)
    record = json.loads((target / "prepared.json").read_text())
    old = {name: value for name, value in record.items() if name not in ("files", "sha256")} | {"format": 1}
    (target / "prepared.json").write_text(json.dumps(old))
    lines = [json.loads(line) for line in (target / "files.jsonl").read_text().splitlines()]
    lines = [line if line[3] < 0 else line[:4] for line in lines]
    (target / "files.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert_same(root, target)
    assert "prepared.json has no checksum" in caplog.text
    capsys.readouterr()
    made(root)
    assert "; 0 files read." in capsys.readouterr().out
    assert json.loads((target / "prepared.json").read_text()) == record
    assert_same(root, target)


def test_a_newer_format_is_refused(root):
    target = made(root)
    (target / "prepared.json").write_text(json.dumps({"format": 3}))
    with pytest.raises(UserError, match="format 3, but this version reads up to 2"):
        folder(target).train_source()


def test_a_disk_that_is_too_small_is_noticed_first(root, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"0\.0 GB free"):
        made(root)


def test_open_files_stay_in_their_process(root):
    source = folder(made(root)).train_source()
    images = source.images([0, 1])
    assert torch.equal(pickle.loads(pickle.dumps(source)).images([0, 1]), images)


def test_inspection_looks_at_the_prepared_images(root):
    found, bad = inspect(folder(made(root)), 100)
    assert {item.size for item in found} == {(8, 8)} and len(found) == 20
    assert [error.path for error in bad] == [str(root / "a/bad.png")] and found[0].name.endswith(".png")


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["SRC", "DST"], "--size"),
        (["SRC", "DST", "--size", "1", "2", "3"], "--size has 3 numbers"),
        (["SRC", "DST", "--size", "0"], "0x0 pixels"),
        (["SRC", "DST", "--size", "8", "--resize", "crap"], "no resize rule"),
        (["SRC", "DST", "--size", "8", "--workers", "0"], "--workers is 0"),
        (["nowhere", "DST", "--size", "8"], "no folder .*nowhere"),
    ],
)
def test_mistakes_are_said(argv, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=what):
        prepare(argv)
