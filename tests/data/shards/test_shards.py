import json
import logging
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from types import SimpleNamespace

import pytest
import webdataset
from PIL import Image

from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.inspection.inspect import inspect
from aigc_lightning.data.shards.index import INDEX_FILE, TABLE_FILE, read_table
from aigc_lightning.data.shards.scan import CorruptShardError, scan_shard
from aigc_lightning.data.shards.shards import Shards, ShardSampler
from aigc_lightning.errors import UserError


def fill(root, count, part=""):
    """Write images whose red tells their number, in two classes."""
    for number in range(count):
        path = root / part / ("odd" if number % 2 else "even") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """23 training images in shards of 5, and 4 held-out ones."""
    root = tmp_path_factory.mktemp("images")
    fill(root, 23, "train")
    fill(root, 4, "val")
    folder = tmp_path_factory.mktemp("out") / "shards"
    assert shard([str(root), str(folder), "--samples", "5"]) == 0
    return folder


@pytest.fixture
def copy(shards, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def data(folder, **options):
    return Shards(str(folder), **{"size": 8, "batch_size": 4, "shuffle_buffer": 6, **options})


def at(module, rank=0, world_size=1, batches=0):
    """Put a data module into a process of a run that has done so many batches."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=batches))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    place = {"global_rank": rank, "world_size": world_size, "is_global_zero": rank == 0}
    module.trainer = SimpleNamespace(**place, fit_loop=loop, training=False, overfit_batches=0)
    return module


def reds(images):
    return to_uint8(images)[:, 0, 0, 0].tolist()


def test_inspection_looks_at_the_images_in_them(shards):
    found, bad = inspect(data(shards), 100)
    assert len(found) == 27 and not bad and {item.size for item in found} == {(8, 8)}


# ---- writing


def test_shards_hold_the_files_byte_by_byte_with_labels(tmp_path, capsys):
    fill(tmp_path / "images", 7)
    assert shard([str(tmp_path / "images"), str(tmp_path / "out"), "--samples", "3"]) == 0
    assert "7 images" in capsys.readouterr().out
    index = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert index["class_names"] == ["even", "odd"]
    assert sum(entry["nsamples"] for entry in index["shardlist"]) == 7
    seen = set()
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in (m for m in tar if m.name.endswith(".png")):
                label_file, image_file = tar.extractfile(member.name.replace(".png", ".cls")), tar.extractfile(member)
                assert label_file is not None and image_file is not None
                label, content = int(label_file.read()), image_file.read()
                (original,) = [file for file in (tmp_path / "images").rglob("*.png") if file.read_bytes() == content]
                assert original.parent.name == index["class_names"][label]
                seen.add(original)
    assert len(seen) == 7


def test_the_same_images_give_the_same_shards(tmp_path):
    fill(tmp_path / "images", 7)
    for name in ("a", "b"):
        shard([str(tmp_path / "images"), str(tmp_path / name), "--samples", "3"])
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_webdataset_reads_them(shards):
    found = list(webdataset.WebDataset(str(shards / "train-{000000..000004}.tar"), shardshuffle=False).decode("rgb8"))
    assert sorted(int(sample["png"][0, 0, 0]) for sample in found) == list(range(23))
    assert all(sample["cls"] == sample["png"][0, 0, 0] % 2 for sample in found)


def test_bad_files_are_left_out_within_the_budget(tmp_path, capsys):
    fill(tmp_path / "images", 9)
    (tmp_path / "images" / "even" / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of 10 images cannot be read.*bad\.png"):
        shard([str(tmp_path / "images"), str(tmp_path / "strict")])
    assert not (tmp_path / "strict" / "shards.json").exists()
    assert shard([str(tmp_path / "images"), str(tmp_path / "out"), "--max-bad", "0.1"]) == 0
    assert "Left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["SRC"], "needs two folders"),
        (["SRC", "DST", "--samples", "0"], "--samples is 0"),
        (["SRC", "DST", "--val-share", "2"], "--val-share is 2"),
        (["nowhere", "DST"], "no folder nowhere"),
        (["SRC", "SRC"], "SRC is not empty"),
        (["--index", "nowhere"], "no folder nowhere"),
    ],
)
def test_mistakes_are_told(argv, what, folder):
    fill(folder / "SRC", 4)
    with pytest.raises(UserError, match=what):
        shard(argv)


# ---- order


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_together_visit_each_sample_once_an_epoch(world_size):
    for epoch in range(2):
        samplers = [
            ShardSampler([5, 5, 5, 5, 3], 6, 4, seed=1, rank=rank, world_size=world_size) for rank in range(world_size)
        ]
        for sampler in samplers:
            sampler.position = partial(int, epoch * len(sampler))
        batches = [list(sampler) for sampler in samplers]
        assert len({len(own) for own in batches}) == 1
        keys = [key for own in batches for batch in own for key in batch]
        assert sorted(key.number for key in keys) == list(range(23))
        assert {key.epoch for key in keys} == {epoch}
        for number, together in enumerate(zip(*batches, strict=True)):
            layouts = [sampler.layout(number) for sampler in samplers]
            assert [len(batch) for batch in together] == [layout.count for layout in layouts]


def order(**options):
    return [key.number for batch in ShardSampler([50] * 20, batch_size=10, **{"seed": 0, **options}) for key in batch]


def test_the_order_depends_on_seed_and_epoch_alone():
    assert order(buffer=40) == order(buffer=40)
    assert order(buffer=40) != order(buffer=40, seed=1)
    assert order(buffer=40) != order(buffer=40, position=lambda: 100)


def test_a_sample_moves_by_less_than_the_buffer():
    kept = order(buffer=0)
    assert [number // 50 for number in kept[::50]] != list(range(20))  # the shards are in a random order
    assert all(kept[first + 49] - kept[first] == 49 for first in range(0, 1000, 50))  # and whole
    place = {number: position for position, number in enumerate(kept)}
    moves = [abs(place[number] - position) for position, number in enumerate(order(buffer=40))]
    assert 20 < max(moves) < 40


def test_a_process_opens_its_own_shards_only():
    samplers = [ShardSampler([50] * 20, 40, 10, seed=0, rank=rank, world_size=4) for rank in range(4)]
    opened = [{key.number // 50 for batch in sampler for key in batch} for sampler in samplers]
    assert sum(map(len, opened)) <= 20 + 3  # a shard through which a cut goes is opened by two


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2), (4, 1)])
def test_an_order_goes_on_with_other_processes(before, after):
    def batches(world_size):
        options = {"original_world_size": before, "world_size": world_size, "position": lambda: 3}
        streams = [
            ShardSampler([5, 9, 3, 5, 7], 6, 8 // world_size, 1, rank=rank, **options) for rank in range(world_size)
        ]
        return [list(chain(*parts)) for parts in zip(*streams, strict=True)]

    assert batches(after) == batches(before)


@pytest.mark.parametrize("position", [1, 5, 6, 8])
def test_an_order_goes_on_at_any_sample(position):
    whole = [*ShardSampler([5, 5, 5, 5, 3], 6, 4, seed=1)]
    whole += [*ShardSampler([5, 5, 5, 5, 3], 6, 4, seed=1, position=lambda: len(whole))]
    rest = [*ShardSampler([5, 5, 5, 5, 3], 6, 4, seed=1, position=lambda: position)]
    assert rest[: len(whole) - position] == whole[position : position + len(rest)]


# ---- reading


def epoch(folder, stage, rank=0, world_size=1, **options):
    module = at(data(folder, **options), rank, world_size)
    return [module.on_before_batch_transfer(batch, 0) for batch in getattr(module, f"{stage}_dataloader")()]


@pytest.mark.parametrize(
    ("world_size", "num_workers"),
    [
        (1, 0),
        (2, 0),
        (3, 0),
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(3, 2, marks=pytest.mark.slow),
    ],
)
def test_every_image_comes_once_with_its_own_label(shards, world_size, num_workers):
    for stage, count in (("train", 23), ("val", 4)):
        batches = [
            batch
            for rank in range(world_size)
            for batch in epoch(shards, stage, rank, world_size, num_workers=num_workers)
        ]
        found = [red for batch in batches for red in reds(batch["image"])]
        assert sorted(found) == list(range(count))
        assert [red % 2 for red in found] == [label for batch in batches for label in batch["label"].tolist()]
        assert sorted(chain(*(batch["index"].tolist() for batch in batches))) == list(range(count))


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loader_goes_on_where_the_trainer_stands(shards, num_workers):
    whole = [batch["index"].tolist() for batch in epoch(shards, "train")]
    module = at(data(shards, num_workers=num_workers), batches=3)
    rest = [batch["index"].tolist() for batch in module.train_dataloader()]
    assert rest[: len(whole) - 3] == whole[3:]


def test_data_can_be_sent_to_another_process(shards):
    module = data(shards)
    before = module.train_source().images([3, 1])
    again = pickle.loads(pickle.dumps(module))
    assert again.spec == module.spec and (again.train_source().images([3, 1]) == before).all()


@pytest.mark.parametrize("writable", [True, False])
def test_shards_of_others_are_indexed_on_first_use(copy, writable, monkeypatch):
    for name in ("shards.json", "shards.npy"):
        (copy / name).unlink()
    if not writable:

        def refuse(*given):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("aigc_lightning.data.shards.shards.write_index", refuse)
    batches = epoch(copy, "train")
    assert sorted(red for batch in batches for red in reds(batch["image"])) == list(range(23))
    assert data(copy).spec.class_names == ("0", "1")  # their names are not in the shards
    assert (copy / "shards.json").exists() == writable


def test_without_split_names_the_last_shards_are_held_out(copy):
    for name in ("shards.json", "shards.npy", "val-000000.tar"):
        (copy / name).unlink()
    for path in copy.glob("train-*.tar"):
        path.rename(copy / path.name.replace("train-", ""))
    module = data(copy)
    assert (len(module.train_source()), len(module.val_source())) == (20, 3)


def test_a_sample_without_label_or_image_takes_nothing_from_its_neighbours(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "train-0.tar"), encoder=False) as out:
        out.write({"__key__": "a", "png": b"first", "cls": b"3"})
        out.write({"__key__": "b", "cls": b"4"})
        out.write({"__key__": "c", "png": b"third"})
    rows = scan_shard(tmp_path / "train-0.tar").rows
    assert rows["size"].tolist() == [5, 5] and rows["label"].tolist() == [3, -1]


# ---- damage


def cut(path, size=700):
    path.write_bytes(path.read_bytes()[:size])


def test_a_cut_shard_is_named_and_passed_over_within_the_budget(copy, caplog):
    cut(copy / "train-000001.tar")
    with pytest.raises(UserError, match=r"5 of 23 images in .* cannot be read, with 0 allowed.*[ \n]train-000001\.tar"):
        data(copy).train_source()
    with caplog.at_level(logging.WARNING):
        batches = epoch(copy, "train", max_bad=0.25)
    assert caplog.text.count("train-000001.tar cannot be read (it has 700 bytes") == 1
    assert sorted(number for batch in batches for number in batch["index"].tolist()) == list(range(23))
    found = [red for batch in batches for red in reds(batch["image"])]
    assert [red % 2 for red in found] == [label for batch in batches for label in batch["label"].tolist()]
    assert len(set(found)) == 18  # the others twice


def test_a_shard_that_the_index_leaves_out_is_named_at_each_start(copy, caplog):
    cut(copy / "train-000001.tar")
    for name in (INDEX_FILE, TABLE_FILE):
        (copy / name).unlink()
    data(copy, max_bad=0.5).train_source()
    caplog.clear()
    data(copy, max_bad=0).train_source()
    assert "Left out 1 of the shards in" in caplog.text and "train-000001.tar (unexpected end of data)" in caplog.text


def test_with_no_shard_left_to_train_on_the_others_are_named(copy):
    for path in (*copy.glob("train-*.tar"), copy / INDEX_FILE, copy / TABLE_FILE):
        cut(path) if path.suffix == ".tar" else path.unlink()
    for _ in range(2):  # where the index is made, and where it is read
        with pytest.raises(UserError, match=r"leaves none to train on: train-000000\.tar \(unexpected end of data"):
            data(copy, max_bad=1).train_source()


def test_a_shard_that_goes_bad_during_the_run_is_passed_over(copy, caplog):
    source = data(copy, max_bad=0.25).train_source()
    cut(copy / "train-000001.tar")
    with caplog.at_level(logging.WARNING):
        assert source.images(range(23)).shape[0] == 23
    assert caplog.text.count("train-000001.tar") == 1


def test_a_damaged_image_is_named_and_the_next_stands_in(copy, caplog):
    path = copy / "train-000000.tar"
    row = scan_shard(path).rows[2]
    content = bytearray(path.read_bytes())
    content[row["offset"] : row["offset"] + 20] = b"x" * 20
    path.write_bytes(content)
    source = data(copy, max_bad=0.1).train_source()
    with caplog.at_level(logging.WARNING):
        assert (source.images([2]) == source.images([3])).all()
    assert "train-000000.tar, 00000002.png cannot be read" in caplog.text
    assert source.labels([2]).tolist() == source.labels([3]).tolist()
    with pytest.raises(
        UserError,
        match=r"1 of 23 images in .* cannot be read, with 0 allowed .*train-000000\.tar, 00000002\.png",
    ):
        epoch(copy, "train", max_bad=0)


def test_with_all_shards_bad_the_run_stops_whatever_the_budget(copy):
    for path in copy.glob("train-*.tar"):
        cut(path)
    with pytest.raises(UserError, match="No readable image is left"):
        data(copy, max_bad=1).train_source()


@pytest.mark.parametrize("size", [0, 100, 700, "between members"])
def test_a_cut_shard_is_not_indexed(copy, size):
    path = copy / "train-000001.tar"
    cut(path, size if size != "between members" else int(scan_shard(path).rows["offset"][2]) - 512)
    with pytest.raises(CorruptShardError, match=r"train-000001\.tar"):
        scan_shard(path)


def test_an_index_that_does_not_fit_is_refused(copy):
    index = data(copy)._index
    (copy / "shards.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not match"):
        read_table(copy / "shards.npy", index)
    (copy / "shards.json").write_text('{"shardlist": [{}]}')
    with pytest.raises(UserError, match="was not written by `aigc data shard`"):
        data(copy).train_source()


@pytest.mark.parametrize("name", ["shards.json", "shards.npy"])
def test_a_flipped_bit_in_the_index_is_named_or_changes_nothing(name, copy):
    def read():
        index = data(copy)._index
        return index, read_table(copy / "shards.npy", index).tobytes()

    whole, content = read(), (copy / name).read_bytes()
    named = 0
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (copy / name).write_bytes(flipped)
        try:
            found = read()
        except UserError as error:
            assert name in error.what
            named += 1
        else:
            assert found == whole, place
    assert named > 0.6 * len(content)  # the others are spaces between the words of shards.json


def test_an_index_of_version_0_1_is_read_with_a_word(copy, caplog):
    record = json.loads((copy / "shards.json").read_text())
    del record["sha256"]
    (copy / "shards.json").write_text(json.dumps(record))
    assert len(data(copy).train_source()) == 23 and "shards.json has no checksum" in caplog.text


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"shuffle_buffer": -1}, "shuffle_buffer is -1"),
        ({"cache_gb": 0}, "cache_gb is 0"),
        ({"val_share": 0}, "val_share is 0"),
        ({"max_bad": 2}, "max_bad is 2"),
    ],
)
def test_arguments_out_of_range_are_told(shards, options, what):
    with pytest.raises(UserError, match=what):
        data(shards, **options)


def test_folders_without_shards_are_told(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        data(tmp_path / "nowhere").train_source()
    with pytest.raises(UserError, match=r"no file that ends in \.tar"):
        data(tmp_path).train_source()
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(UserError) as raised:
        data(tmp_path).train_source()
    assert "gunzip" in raised.value.hint


# ---- behind an address


class CountingServer(ThreadingHTTPServer):
    """Knows what it was asked for, and how often it still has to fail."""

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[str] = []
        self.failures = 0
        self.address = f"http://127.0.0.1:{self.server_port}"


class Counting(SimpleHTTPRequestHandler):
    """Counts what is asked for, and may fail a few times."""

    server: CountingServer

    def do_GET(self):
        self.server.asked.append(self.path.rpartition("/")[2])
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *given):
        pass


@pytest.fixture
def server(copy):
    with CountingServer(partial(Counting, directory=str(copy))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_shards_behind_an_address_are_copied_once(server, tmp_path):
    for rank in range(2):
        batches = epoch(server.address, "train", rank, 2, cache=str(tmp_path / "cache"))
        assert len(batches) == 3
    assert sorted(name for name in server.asked if name.endswith(".tar")) == [
        f"train-{number:06d}.tar" for number in range(5)
    ]


@pytest.mark.slow
def test_loader_processes_share_the_copies(server, tmp_path):
    batches = epoch(server.address, "train", cache=str(tmp_path / "cache"), num_workers=2)
    assert sorted(red for batch in batches for red in reds(batch["image"])) == list(range(23))
    assert len([name for name in server.asked if name.endswith(".tar")]) == 5


def test_a_damaged_copy_of_the_table_is_copied_again(server, tmp_path):
    data(server.address, cache=str(tmp_path / "cache")).train_source().labels([0])
    (table,) = (tmp_path / "cache").rglob("*.npy")
    content = table.read_bytes()
    table.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    data(server.address, cache=str(tmp_path / "cache")).train_source().labels([0])
    assert table.read_bytes() == content and server.asked.count("shards.npy") == 2


def test_copies_that_take_too_much_room_are_removed(server, copy, tmp_path):
    size = (copy / "train-000000.tar").stat().st_size
    batches = epoch(server.address, "train", cache=str(tmp_path / "cache"), cache_gb=2.5 * size / 1e9)
    assert sorted(red for batch in batches for red in reds(batch["image"])) == list(range(23))
    assert len(list((tmp_path / "cache").rglob("*.tar"))) <= 3


def test_a_server_that_stumbles_is_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr("aigc_lightning.data.shards.store._PAUSE_S", 0.01)
    source = data(server.address, cache=str(tmp_path)).train_source()
    server.failures = 2
    assert source.images([0]).shape[0] == 1


def test_a_shard_that_is_gone_is_named(server, copy, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("aigc_lightning.data.shards.store._PAUSE_S", 0.01)
    (copy / "train-000002.tar").unlink()
    with caplog.at_level(logging.WARNING):
        batches = epoch(server.address, "train", cache=str(tmp_path), max_bad=0.25)
    assert f"{server.address}/train-000002.tar cannot be read" in caplog.text
    assert sum(len(batch["index"]) for batch in batches) == 23
    with pytest.raises(UserError, match=r"5 of 23 images in .* cannot be read, with 2 allowed.*[ \n]train-000002\.tar"):
        epoch(server.address, "train", cache=str(tmp_path), max_bad=0.1)


def test_an_address_that_does_not_answer_is_told(tmp_path):
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/shards\.json cannot be read"):
        data("http://127.0.0.1:9", cache=str(tmp_path)).train_source()
