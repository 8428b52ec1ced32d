"""Shards and prepared folders from strangers: their names and links lead nowhere, and no file is waited for."""

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.core.io.checksums import DIGEST, sealed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.prepared_format import Protocol
from aigc_lightning.data.shards.index import build_index
from aigc_lightning.data.shards.shards import Shards
from aigc_lightning.errors import UserError

NAMES = [
    "/home/u/.bashrc",
    "../../x",
    "..",
    "a/b.tar",
    "a\x1b[2J.tar",
    "CON.tar",
    "shards.json",
    "",
    "x" * 300 + ".tar",
    3,
]


@pytest.fixture
def images(tmp_path):
    for number in range(12):
        path = tmp_path / "images" / str(number % 2) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    return tmp_path / "images"


@pytest.fixture
def shards(images, tmp_path):
    assert shard([str(images), str(tmp_path / "shards"), "--samples", "4"]) == 0
    return tmp_path / "shards"


@pytest.fixture
def prepared(images, tmp_path):
    assert prepare([str(images), str(tmp_path / "prepared"), "--size", "8", "--channels", "1", "--workers", "1"]) == 0
    return tmp_path / "prepared"


def change(folder, **changes):
    """Change the first entry of `shards.json`, or the whole of it, as somebody would who knows of the checksum."""
    path = folder / "shards.json"
    record = json.loads(path.read_text())
    del record[DIGEST]
    for key, value in changes.items():
        holder = record["shardlist"][0] if key in record["shardlist"][0] else record
        holder[key] = value
    path.write_text(json.dumps(sealed(record)))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def data(root, **options):
    return Shards(str(root), **{"size": 8, "channels": 1, "batch_size": 4, **options})


@pytest.mark.parametrize("far", [True, False], ids=["far", "near"])
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_an_index_makes_no_file_outside(name, far, shards, serve, tmp_path):
    change(shards, url=name)
    (tmp_path / "home").mkdir()
    root = serve(shards) if far else shards
    before = files_below(tmp_path)
    with pytest.raises(UserError, match="names the file") as error:
        data(root, cache=str(tmp_path / "home")).train_source().images([0])
    assert "shards.json" in error.value.what and files_below(tmp_path) == before


@pytest.mark.parametrize("table", ["../../x", "/tmp/x", "0123456789ABCDEF", "0" * 15, 3, None], ids=repr)
def test_the_digest_of_a_table_is_a_digest(table, shards, serve, tmp_path):
    change(shards, table=table)
    with pytest.raises(UserError, match="digest of 16 hexadecimal digits"):
        data(serve(shards), cache=str(tmp_path / "home")).train_source()


def test_a_shard_is_listed_once(shards):
    record = json.loads((shards / "shards.json").read_text())
    change(shards, url=record["shardlist"][1]["url"])
    with pytest.raises(UserError, match="listed twice"):
        data(shards).train_source()


def test_rows_that_point_out_of_their_shard_are_bad_images(shards):
    table = np.load(shards / "shards.npy")
    for row, (offset, size) in enumerate([(-5, 10), (0, 2**62), (2**62, 10), (0, 0)]):
        table[row]["offset"], table[row]["size"] = offset, size
    np.save(shards / "shards.npy", table)
    change(shards, table=blake2b((shards / "shards.npy").read_bytes(), digest_size=8).hexdigest())
    source = data(shards, max_bad=0.9).train_source()
    assert source.images(range(len(source))).shape[0] == len(source)


@pytest.mark.parametrize("name", ["shards.json", "shards.npy", "train-000000.tar"])
def test_links_out_of_a_folder_of_shards_are_not_read(name, shards, tmp_path):
    (shards / name).rename(tmp_path / "elsewhere")
    (shards / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        data(shards, max_bad=0).train_source().images([0])
    (shards / name).unlink()
    (tmp_path / "elsewhere").rename(shards / "inside.x")
    (shards / name).symlink_to("inside.x")  # within the folder a link does no harm
    assert data(shards).train_source().images([0]).shape[0] == 1


def test_a_copy_that_is_a_link_is_not_written_through(shards, serve, tmp_path):
    (tmp_path / "precious").write_text("mine")
    source = data(serve(shards), cache=str(tmp_path / "cache"))
    source.spec  # noqa: B018  (makes the folder of the copies)
    folder = source._store.folder
    for name in (*[path.name for path in shards.glob("*.tar")], f"{source._index.digest}.npy"):
        (folder / name).symlink_to(tmp_path / "precious")
    assert len(source.train_source().images(range(8))) == 8
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_cache_of_somebody_else_is_not_used(shards, serve, tmp_path, monkeypatch):
    folder = tmp_path / "temporary" / "aigc-shards"
    folder.mkdir(parents=True)
    monkeypatch.setattr("aigc_lightning.data.shards.store.default_cache", lambda: folder)
    folder.chmod(0o777)
    with pytest.raises(UserError, match="not a folder that only you can write to"):
        data(serve(shards)).train_source().images([0])
    folder.chmod(0o755)
    assert len(data(serve(shards)).train_source().images([0])) == 1
    folder.rename(tmp_path / "other")
    folder.symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="not a folder that only you can write to"):
        data(serve(shards)).train_source().images([0])


def test_a_server_that_announces_a_petabyte(shards, serve, quiet_server, tmp_path):
    base: Any = quiet_server

    class Petabyte(base):
        def __init__(self, *given):
            super().__init__(*given, directory=str(shards))

        def send_header(self, name, value):
            large = name == "Content-Length" and self.path.endswith((".tar", ".npy"))
            super().send_header(name, "9" * 15 if large else value)

    with pytest.raises(UserError, match=r"cannot be read: it needs 1\.0 PB"):
        data(serve(Petabyte), cache=str(tmp_path / "cache")).train_source().images([0])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    "address", ["reference://x", "ssh://h/x", "simplecache::http://h", "file:///etc", "http://[::1"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(UserError, match=r"is not supported for shards|cannot be read"):
        data(address).train_source()


# ---- what is no regular file


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(kind, images, shards, tmp_path):
    def put(path):
        path.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")

    put(tmp_path / "x.png")
    with pytest.raises(CorruptImageError, match=r"not a regular file|is a directory"):
        decode(tmp_path / "x.png")
    if kind != "folder":
        put(images / "0" / "00.png")
        found = ImageFolder(images, size=8, channels=1, max_bad=0.2)
        assert len(found.train_source()) + len(found.val_source()) == 11
        put(images / "0" / "02.png")
        assert prepare([str(images), str(tmp_path / "prepared"), "--size", "8", "--workers", "1"]) == 0
        assert shard([str(images), str(tmp_path / "packed"), "--max-bad", "0.2"]) == 0
    put(shards / "val-000000.tar")
    put(shards / "x.tar")
    (shards / "shards.json").unlink()
    assert [Path(error.name).name for error in build_index(shards).bad] == ["val-000000.tar", "x.tar"]
    put(shards / "shards.npy")
    with pytest.raises(UserError):
        data(shards).train_source().images([0])


# ---- prepared folders


def use(folder):
    return ImageFolder(folder, size=8, channels=1).train_source()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x.png", ""], ids=repr)
def test_names_in_a_prepared_folder_stay_in_its_source(name, prepared, images):
    path = prepared / "files.jsonl"
    path.write_text(json.dumps([name, 1, 1, 0]) + "\n" + path.read_text())
    with pytest.raises(UserError, match=r"files\.jsonl names the file"):
        use(prepared)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "[3, 1, 1, 0]",
        "[null, 1, 1, 0]",
        '["a", "b", 1, 1]',
        '["a.png", [], 1, 1]',
        "nothing",
        '"a"',
        "[" * 5000,
    ],
)
def test_a_damaged_list_is_told(line, prepared):
    path = prepared / "files.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(UserError, match=r"files\.jsonl (is damaged|names)"):
        use(prepared)


@pytest.mark.parametrize("name", ["prepared.json", "files.jsonl", "images.u8"])
def test_links_of_a_prepared_folder_are_neither_read_nor_written_through(name, prepared, images, tmp_path):
    (prepared / name).rename(tmp_path / "elsewhere")
    (prepared / name).symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(UserError, match="is a link"):
        use(prepared)
    Image.new("L", (8, 8), 99).save(images / "0" / "new.png")
    argv = [str(images), str(prepared), "--size", "8", "--channels", "1", "--workers", "1"]
    with pytest.raises((UserError, OSError), match="link"):
        prepare(argv)
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_the_source_that_a_record_names_is_said_before_it_is_looked_at(prepared, images, capsys):
    use(prepared)
    assert f"was prepared from {images}" in capsys.readouterr().err  # not on the stream of --json


def test_a_command_in_a_hint_is_one_command(tmp_path):
    protocol = Protocol(Path("/x; rm -rf ~/$(y)"), ImageSpec(3, 8, 8).shape, "crop")
    assert protocol.command(tmp_path / "a b") == (f"aigc data prepare '/x; rm -rf ~/$(y)' '{tmp_path}/a b' --size 8")
