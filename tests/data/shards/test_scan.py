import io
import os
import subprocess
import tarfile

import pytest
import webdataset

from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.data.shards.index import build_index
from aigc_lightning.data.shards.scan import LARGEST_LABEL, CorruptShardError, scan_shard


def write(path, *members):
    """Write a tar file of (name, content), or of a name whose content is a link's type and target."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                tar.addfile(info)
    return path


def contents(path, scanned):
    data = path.read_bytes()
    return [data[row["offset"] : row["offset"] + row["size"]] for row in scanned.rows]


def test_the_image_of_a_sample_is_the_one_that_webdataset_takes(tmp_path):
    path = write(
        tmp_path / "a.tar",
        *[("000.depth.png", b"depth 0"), ("000.jpg", b"0"), ("000.seg.png", b"segments 0")],
        *[("001.png", b"png 1"), ("001.JPG", b"1")],
        *[("002.depth.png", b"depth 2"), ("002.cls", b"7")],
        *[("deep.er/003.x.jpg", b"x 3"), ("deep.er/003.jpeg", b"3"), ("deep.er/003.txt", b"words")],
    )
    scanned = scan_shard(path)
    assert contents(path, scanned) == [b"0", b"1", b"depth 2", b"3"]
    assert scanned.members == ["000.jpg", "001.JPG", "002.depth.png", "deep.er/003.jpeg"]
    assert {item.member: item.reason for item in scanned.left_out} == {
        "000.depth.png": "the image of its sample 000 is 000.jpg",
        "000.seg.png": "the image of its sample 000 is 000.jpg",
        "001.png": "the image of its sample 001 is 001.JPG",
        "deep.er/003.x.jpg": "the image of its sample deep.er/003 is deep.er/003.jpeg",
    }
    keys = ";".join(suffix[1:] for suffix in SUFFIXES)
    theirs = webdataset.WebDataset(str(path), shardshuffle=False).to_tuple(keys, handler=webdataset.ignore_and_continue)
    assert [image for (image,) in theirs] == [b"0", b"1", b"3"]  # theirs passes over what has no such field


def test_dots_in_names_are_said_to_make_one_sample(tmp_path, capsys):
    write(tmp_path / "a.tar", *[(f"IMG.{number}.png", b"%d" % number) for number in range(6)], ("b.png", b"b"))
    assert shard(["--index", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "a.tar: 5 images are left out, such as IMG.1.png: the image of its sample IMG is IMG.0.png." in output


def test_litter_is_left_out(tmp_path):
    path = write(
        tmp_path / "a.tar",
        *[("./._a.png", b"litter"), ("./a.png", b"a"), ("__MACOSX/._a.png", b"litter"), ("@eaDir/a.png", b"litter")],
        *[("./a.cls", b"1"), ("b/.DS_Store", b"litter"), ("b/c.png", b"c")],
    )
    scanned = scan_shard(path)
    assert contents(path, scanned) == [b"a", b"c"] and not scanned.left_out
    assert scanned.rows["label"].tolist() == [1, -1]  # what lies between the members of a sample does not part them
    (tmp_path / "._a.tar").write_bytes(b"litter")
    assert build_index(tmp_path).bad == []


def test_links_are_images_like_what_they_link_to(tmp_path):
    hard, soft = (lambda target: (tarfile.LNKTYPE, target)), (lambda target: (tarfile.SYMTYPE, target))
    path = write(
        tmp_path / "a.tar",
        *[("x/a.png", b"first"), ("x/a.cls", b"3"), ("x/b.png", hard("x/a.png")), ("x/b.cls", hard("x/a.cls"))],
        *[("x/c.png", soft("a.png")), ("y/d.png", soft("../x/c.png")), ("y/e.png", soft("f.png")), ("y/f.png", b"f")],
        *[("g.png", hard("nowhere.png")), ("h.png", soft("h.png"))],
    )
    scanned = scan_shard(path)
    assert contents(path, scanned) == [b"first", b"first", b"first", b"first", b"f", b"f"]
    assert scanned.rows["label"].tolist() == [3, 3, -1, -1, -1, -1]
    assert [(item.member, item.reason) for item in scanned.left_out] == [
        ("g.png", "it is a link to nowhere.png, which is missing"),
        ("h.png", "it is a link to h.png, which is missing"),
    ]


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_sparse_members_are_named_and_not_read_as_garbage(tmp_path, kind):
    with (tmp_path / "s.png").open("wb") as file:
        file.seek(2**20)
        file.write(b"end" * 1000)
    (tmp_path / "t.png").write_bytes(b"whole")
    done = subprocess.run(
        ["tar", "-c", "-S", f"--format={kind}", "-f", "a.tar", "s.png", "t.png"], cwd=tmp_path, check=False
    )
    if done.returncode:
        pytest.skip("GNU tar writes sparse members")
    scanned = scan_shard(tmp_path / "a.tar")
    if "s.png" in scanned.members:
        pytest.skip("the file system has no holes")
    assert contents(tmp_path / "a.tar", scanned) == [b"whole"]
    assert [(item.member, item.reason) for item in scanned.left_out] == [("s.png", "it is stored as a sparse file")]


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (b"99999999999", "99999999999"),
        (b"1000000", "1000000"),
        (b"-5", "-5"),
        (b"cat\n", "cat"),
        (b"1_0", "1_0"),
        (b"", "nothing"),
        (b"\xff", r"\xff"),
        (b"1" * 10**6, "1" * 32),
        ((tarfile.SYMTYPE, "nowhere"), "nothing"),
    ],
)
def test_class_numbers_are_bounded(tmp_path, content, held):
    path = write(tmp_path / "bad.tar", ("a.png", b"a"), ("a.cls", content))
    with pytest.raises(CorruptShardError) as error:
        scan_shard(path)
    what = f"bad.tar cannot be read as a shard: a.cls holds {held}, not a class number from 0 to {LARGEST_LABEL}."
    assert what in error.value.what
    write(tmp_path / "good.tar", ("a.png", b"a"), ("a.cls", b" 3\n"))
    built = build_index(tmp_path)
    assert built.index.class_names == ("0", "1", "2", "3") and [bad.name for bad in built.bad] == [str(path)]


def test_images_without_a_class_among_others_are_counted(tmp_path):
    write(tmp_path / "a.tar", ("a.png", b"a"), ("a.cls", b"1"), ("b.png", b"b"))
    built = build_index(tmp_path)
    assert built.index.class_names == () and built.unlabelled == 1
    assert built.notes() == ["1 of 2 images have no class, so the images have no labels."]
    write(tmp_path / "a.tar", ("a.png", b"a"), ("b.png", b"b"))
    assert build_index(tmp_path).notes() == []


def test_a_shard_whose_images_are_all_left_out_says_why(tmp_path):
    path = write(tmp_path / "a.tar", ("a.png", (tarfile.FIFOTYPE, "")))
    with pytest.raises(CorruptShardError, match=r"a\.png is not used: it is not a regular file"):
        scan_shard(path)


def test_names_of_any_bytes_are_shown_escaped(tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9")
    for shard_name in (name, "a"):
        write(tmp_path / f"{shard_name}.tar", (f"{name}.png", b"a"), (f"{name}.x.png", b"b"))
    assert shard(["--index", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert r"a.tar: 1 images are left out, such as caf\xe9.x.png" in output
    assert r'names the file "caf\xe9.tar": it is not UTF-8' in output


def test_two_fields_of_one_name_are_named(tmp_path):
    path = write(tmp_path / "a.tar", ("a.png", b"first"), ("a.png", b"second"))
    scanned = scan_shard(path)
    assert contents(path, scanned) == [b"first"] and scanned.left_out == [("a.png", "its sample has two fields png")]
