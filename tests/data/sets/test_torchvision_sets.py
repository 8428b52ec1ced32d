import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
import torchvision

from aigc_lightning.data.base import ArraySource
from aigc_lightning.data.sets.torchvision_sets import CIFAR10, MNIST, FashionMNIST, data_folder
from aigc_lightning.errors import UserError

COUNTS = {"train": 12, "t10k": 5}


def idx(array):
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(part, side=28):
    count = COUNTS[part]
    pixels = np.random.default_rng(count).integers(0, 256, (count, side, side), np.uint8)
    return pixels, (np.arange(count) % 10).astype(np.uint8)


def write_idx(folder, zipped=True, side=28):
    folder.mkdir(parents=True, exist_ok=True)
    for part in COUNTS:
        for array, stem in zip(digits(part, side), ("images-idx3", "labels-idx1"), strict=True):
            data = idx(array)
            name = f"{part}-{stem}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("below", [".", "raw", "FashionMNIST", "FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_found_zipped_or_not(tmp_path, below, zipped):
    write_idx(tmp_path / below, zipped)
    data = FashionMNIST(tmp_path, size=28)
    for source, part in ((data.train_source(), "train"), (data.val_source(), "t10k"), (data.test_source(), "t10k")):
        pixels, labels = digits(part)
        assert isinstance(source, ArraySource)
        assert torch.equal(source.images(range(len(source))), torch.from_numpy(pixels)[:, None])
        found = source.labels(range(len(source)))
        assert found is not None and found.tolist() == labels.tolist()
    assert data.train_source() is data.train_source()


@pytest.mark.parametrize("size", [28, 32, 40, 16])
def test_spec_is_the_shape_of_the_images(tmp_path, size):
    data = MNIST(write_idx(tmp_path), size=size)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[1:] == data.spec.shape == (1, size, size)
    assert data.spec.num_classes == 10 and batch["label"].dtype == torch.int64


def test_size_32_adds_a_black_border(tmp_path):
    images = MNIST(write_idx(tmp_path)).train_source().images([1, 3])
    assert torch.equal(images[:, 0, 2:-2, 2:-2], torch.from_numpy(digits("train")[0][[1, 3]]))
    border = images.clone()
    border[:, :, 2:-2, 2:-2] = 0
    assert border.max() == 0


def test_resized_images_do_not_depend_on_the_batch(tmp_path):
    source = MNIST(write_idx(tmp_path), size=45).train_source()
    together = source.images(range(12))
    assert torch.equal(together, torch.cat([source.images([index]) for index in range(12)]))
    # Enlarging keeps the brightness.
    assert abs(together.float().mean() - digits("train")[0].mean()) < 2


def test_fashion_is_not_called_digits():
    assert FashionMNIST().spec.class_names[9] == "Ankle boot" and MNIST().spec.class_names[9] == "9"


def test_data_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_DATA", str(tmp_path))
    assert data_folder() == MNIST().root == tmp_path
    monkeypatch.delenv("AIGC_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert CIFAR10().root == tmp_path / "home/.cache/aigc_lightning/data"


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST, CIFAR10])
def test_missing_files_are_told_with_both_ways_to_get_them(tmp_path, cls):
    data = cls(tmp_path)
    assert data.spec.num_classes == 10
    with pytest.raises(UserError, match=f"{cls.__name__} is not in {tmp_path}") as caught:
        data.train_source()
    assert "--data.init_args.download true" in caught.value.hint and "put the" in caught.value.hint


def test_one_missing_file_of_four_is_missing(tmp_path):
    (write_idx(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="MNIST is not in"):
        MNIST(tmp_path).train_source()


@pytest.mark.parametrize("zipped", [True, False])
def test_files_cut_short_are_named(tmp_path, zipped):
    path = write_idx(tmp_path, zipped) / f"train-images-idx3-ubyte{'.gz' if zipped else ''}"
    data = path.read_bytes()
    for length in (0, 3, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*(damaged|cannot be read|not an idx file)"):
            MNIST(tmp_path).train_source()
    path.write_bytes(data + b"\0" if not zipped else data[:20] + b"\xff\xff" + data[22:])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*(damaged|cannot be read)"):
        MNIST(tmp_path).train_source()


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_idx(tmp_path)
    train_labels, test_labels = (tmp_path / f"{part}-labels-idx1-ubyte.gz" for part in COUNTS)
    kept = train_labels.read_bytes()
    train_labels.write_bytes(test_labels.read_bytes())
    with pytest.raises(UserError, match=r"12 images but .* 5 labels"):
        MNIST(tmp_path).train_source()
    train_labels.write_bytes((tmp_path / "train-images-idx3-ubyte.gz").read_bytes())
    with pytest.raises(UserError, match="not an idx file with 1 axes"):
        MNIST(tmp_path).train_source()
    train_labels.write_bytes(gzip.compress(gzip.decompress(kept)[:-1] + b"\x0b"))
    with pytest.raises(UserError, match="has label 11"):
        MNIST(tmp_path).train_source()
    write_idx(tmp_path, side=20)
    with pytest.raises(UserError, match="20x20"):
        MNIST(tmp_path).train_source()


@pytest.mark.parametrize("cls", [MNIST, CIFAR10])
def test_failed_download_names_the_next_step(tmp_path, monkeypatch, cls):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"] * 2)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/x")
    with pytest.raises(UserError, match=r"could not be downloaded to .*Connection refused") as caught:
        cls(tmp_path, download=True).train_source()
    assert "network" in caught.value.hint


@pytest.fixture
def published(tmp_path, monkeypatch, serve):
    """Publish small files; return the names of those that were asked for."""
    folder = write_idx(tmp_path / "published")
    files = sorted(folder.glob("*.gz"))
    resources = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/", f"{serve(folder)}/"])
    return files


def test_download_fetches_what_is_missing_and_only_that(tmp_path, published):
    MNIST(tmp_path).prepare_data()
    assert not (tmp_path / "MNIST").exists()
    data = MNIST(tmp_path, download=True)
    data.prepare_data()
    assert len(data.train_source()) == 12
    raw = tmp_path / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == [path.name for path in published]
    for path in published[1:]:
        path.unlink()
    (raw / published[0].name).unlink()
    assert len(MNIST(tmp_path, download=True).train_source()) == 12


def test_a_download_that_is_another_file_is_refused(tmp_path, published):
    published[0].write_bytes(b"other")
    with pytest.raises(UserError, match="is not the published file"):
        MNIST(tmp_path, download=True).train_source()
    assert not list((tmp_path / "MNIST").rglob(f"*{published[0].name}*"))


def photos(seed, count=4):
    generator = np.random.default_rng(seed)
    pixels, labels = generator.integers(0, 256, (count, 3072), np.uint8), generator.integers(0, 10, count, np.uint8)
    return pixels, labels


def write_binary(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]):
        pixels, labels = photos(seed)
        (folder / name).write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
    return folder


def write_pickles(folder, monkeypatch):
    """Write small files under the names of the published ones and make their checksums the published ones."""
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    sums = []
    for seed, name in enumerate(names):
        pixels, labels = photos(seed)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels.tolist()}))
        sums.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10.class_names)}))
    meta = {"filename": "batches.meta", "key": "label_names"}
    meta["md5"] = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    for key, value in (("train_list", sums[:5]), ("test_list", sums[5:]), ("meta", meta)):
        monkeypatch.setattr(torchvision.datasets.CIFAR10, key, value)
    return folder


def check_photos(data):
    for source, seeds in ((data.train_source(), range(5)), (data.val_source(), [5])):
        pixels = np.concatenate([photos(seed)[0] for seed in seeds]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([photos(seed)[1] for seed in seeds])
        assert torch.equal(source.images(range(len(source))), torch.from_numpy(pixels))
        assert source.labels(range(len(source))).tolist() == labels.tolist()
    assert data.spec.shape == (3, 32, 32)


def test_binary_cifar_is_read_from_its_folder_or_beside(tmp_path):
    folder = write_binary(tmp_path / "cifar-10-batches-bin")
    for root in (tmp_path, folder):
        check_photos(CIFAR10(root))
    assert CIFAR10(tmp_path, size=36).train_source().images([0]).shape == (1, 3, 36, 36)
    assert CIFAR10(tmp_path, size=36).train_source().images([0])[:, :, 0].max() > 0  # resized, not bordered


def test_pickled_cifar_is_read_when_its_checksums_match(tmp_path, monkeypatch):
    folder = write_pickles(tmp_path / "cifar-10-batches-py", monkeypatch)
    for root in (tmp_path, folder):
        check_photos(CIFAR10(root))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_pickles_with_other_checksums_are_not_opened(tmp_path, monkeypatch):
    folder = write_pickles(tmp_path / "cifar-10-batches-py", monkeypatch)
    (folder / "data_batch_2").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(UserError, match="checksum is wrong"):
        CIFAR10(tmp_path).train_source()
    assert not (tmp_path / "sprung").exists()


def test_damaged_binary_cifar_is_named(tmp_path):
    folder = write_binary(tmp_path / "cifar-10-batches-bin")
    (folder / "data_batch_3.bin").write_bytes((folder / "data_batch_3.bin").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_3\.bin is damaged: 12291 bytes"):
        CIFAR10(tmp_path).train_source()
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_3\.bin cannot be read: No such file"):
        CIFAR10(tmp_path).train_source()


def test_too_small_sizes_are_refused():
    with pytest.raises(UserError, match=r"data\.size is 7 pixels"):
        MNIST(size=7)
