"""Well-known small datasets, read from their published files and downloaded through torchvision if need be.

Sources: LeCun, Cortes, Burges, The MNIST database; Xiao, Rasul, Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017;
Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (CIFAR-10).
Shapes: N images, C channels, H and W height and width in pixels.
"""

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core.io.http import DownloadError
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.data.sets.published_file import PublishedFile, read_cifar_records, read_idx
from aigc_lightning.errors import UserError


def data_folder() -> Path:
    """Return where datasets are kept: $AIGC_DATA, without it ~/.cache/aigc_lightning/data."""
    return Path(os.environ.get("AIGC_DATA") or "~/.cache/aigc_lightning/data").expanduser()


class SizedSource(ArraySource):
    """Small images in memory that take their size when they are asked for.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        size: height and width of what is given. Images of 28 pixels reach 32 by a black border, as is the custom with
            them; any other change resizes (bicubic, antialiased).
    """

    def __init__(self, images: Tensor, labels: Tensor, size: int) -> None:
        super().__init__(images, labels)
        self._size = size

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, size, size)."""
        images = super().images(indices)
        if self._size == images.shape[-1]:
            return images
        if (images.shape[-1], self._size) == (28, 32):
            return functional.pad(images, [2] * 4)
        size = (self._size, self._size)
        resized = functional.interpolate(images.float(), size, mode="bicubic", align_corners=False, antialias=True)
        return resized.round().clamp(0, 255).to(torch.uint8)


class PublishedSet(ImageDataModule):
    """Base of the datasets of this file: official training images to train on, official test images held out.

    As is the custom with these sets, the test images are both validated and tested on: a model that is chosen by its
    validation scores has seen them.

    Args:
        root: folder that has the files, or gets them; `data_folder()` when None.
        size: height and width in pixels.
        download: fetch files that are missing.
        batch_size: images per process in a step.
        num_workers: loader processes; 0 is fastest here, since the images are in memory.
        augmentation: what to vary while training.
        balanced: show all classes equally often while training, whatever their share of the images.

    Raises:
        UserError: a size below 8; and when the data is first used: files missing, damaged or not to be downloaded.
    """

    said_by_user = ("download",)
    published_name: str  # as torchvision spells it
    channels: int
    class_names: tuple[str, ...]

    def __init__(
        self,
        root: str | Path | None = None,
        size: int = 32,
        download: bool = False,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation, balanced)
        if size < 8:
            raise UserError(f"data.size is {size} pixels.", "Give 8 or more.")
        self.root = Path(root).expanduser() if root is not None else data_folder()
        self.size, self.download = size, download

    @property
    def spec(self) -> ImageSpec:
        """Channels and classes of the published set at the size asked for; reads no file."""
        return ImageSpec(self.channels, self.size, self.size, self.class_names)

    def prepare_data(self) -> None:
        """Download what is missing, where that is asked for; Lightning calls this in one process of a machine."""
        if self.download and not self._is_complete():
            self._fetch()

    def train_source(self) -> SizedSource:
        """Return the official training images."""
        return self._train

    def val_source(self) -> SizedSource:
        """Return the official test images."""
        return self._test

    @cached_property
    def _train(self) -> SizedSource:
        return self._source(train=True)

    @cached_property
    def _test(self) -> SizedSource:
        return self._source(train=False)

    def _source(self, *, train: bool) -> SizedSource:
        self.prepare_data()  # of use outside a trainer; inside, everything is there by now
        if not self._is_complete():
            hint = "Let them be fetched with --data.init_args.download true, or"
            raise UserError(f"{self.published_name} is not in {self.root}.", f"{hint} put {self._wanted()} there.")
        images, labels = self._read(train=train)
        if len(labels) and labels.max() >= len(self.class_names):
            raise UserError(f"{self.published_name} in {self.root} has label {labels.max()}.", "Fetch its files anew.")
        return SizedSource(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), self.size)

    def _fetch(self) -> None:
        """Copy the published files, by our own means: torchvision's know no limit of time or room."""
        try:
            for file in self._published():
                file.fetch()
        except DownloadError as error:
            hint = f"Check the network, or fetch the files elsewhere and put {self._wanted()} there."
            what = f"{self.published_name} could not be downloaded to {self.root}: {error.reason}."
            raise UserError(what, hint) from error

    @abstractmethod
    def _published(self) -> list[PublishedFile]:
        """Return what is to be fetched."""

    @abstractmethod
    def _is_complete(self) -> bool:
        """Return whether all files are there."""

    @abstractmethod
    def _wanted(self) -> str:
        """Say which files belong into the root."""

    @abstractmethod
    def _read(self, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return images (N, C, H, W) and labels (N,)."""


class MNIST(PublishedSet):
    """70,000 handwritten digits, 28x28 grey, ten classes; 60,000 of them to train on.

    The four idx files, gzipped or not, are looked for in `root`, `root/raw`, `root/MNIST` and `root/MNIST/raw`. Size 32
    adds two black pixels on each side, 28 leaves the images as they are, any other size resizes.
    """

    published_name = "MNIST"
    channels = 1
    class_names = tuple("0123456789")

    def _file(self, stem: str) -> Path | None:
        folders = [
            self.root / self.published_name / "raw",
            self.root / self.published_name,
            self.root / "raw",
            self.root,
        ]
        found = (folder / (stem + ending) for folder in folders for ending in ("", ".gz"))
        return next((path for path in found if path.is_file()), None)

    def _published(self) -> list[PublishedFile]:
        from torchvision import datasets  # takes a second: only a download should pay for it

        published, folder = getattr(datasets, self.published_name), self.root / self.published_name / "raw"
        return [
            PublishedFile(folder / name, [f"{mirror}{name}" for mirror in published.mirrors], md5)
            for name, md5 in published.resources
        ]

    def _is_complete(self) -> bool:
        stems = (stem for part in ("train", "t10k") for stem in _idx_names(part))
        return all(self._file(stem) is not None for stem in stems)

    def _wanted(self) -> str:
        return "the files {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"

    def _read(self, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        image_path, label_path = (self._file(stem) for stem in _idx_names("train" if train else "t10k"))
        assert image_path is not None and label_path is not None
        images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
        if images.shape[1:] != (28, 28):
            raise UserError(f"{image_path} has images of {images.shape[1]}x{images.shape[2]}.", "They should be 28x28.")
        if len(images) != len(labels):
            what = f"{image_path} has {len(images)} images and {label_path} {len(labels)} labels."
            raise UserError(what, "Put files of one dataset together.")
        return images[:, None], labels


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, 28x28 grey, ten classes; 60,000 of them to train on.

    Files and sizes as for `MNIST`, with `FashionMNIST` as the folder's name.
    """

    published_name = "FashionMNIST"
    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )


class CIFAR10(PublishedSet):
    """60,000 small photographs, 32x32 RGB, ten classes; 50,000 of them to train on.

    Reads the binary version (`cifar-10-batches-bin`) or the Python version (`cifar-10-batches-py`, whose checksums are
    compared before it is opened, since pickles can run programs), in `root` or as `root`. Size 32 leaves the images as
    they are, any other size resizes.
    """

    published_name = "CIFAR10"
    channels = 3
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def _binary_folder(self) -> Path | None:
        return self._folder_of("cifar-10-batches-bin", "test_batch.bin")

    def _pickle_folder(self) -> Path | None:
        return self._folder_of("cifar-10-batches-py", "test_batch")

    def _folder_of(self, name: str, file: str) -> Path | None:
        found = self.root if self.root.name == name else self.root / name
        return found if (found / file).is_file() else None

    def _published(self) -> list[PublishedFile]:
        from torchvision.datasets import CIFAR10 as PUBLISHED

        return [PublishedFile(self.root / PUBLISHED.filename, [PUBLISHED.url], PUBLISHED.tgz_md5)]

    def _fetch(self) -> None:
        from torchvision.datasets import CIFAR10 as PUBLISHED

        super()._fetch()
        try:
            PUBLISHED(str(self.root), download=True)  # which finds the file, and unpacks it
        except (OSError, RuntimeError) as error:
            what = f"{self.root / PUBLISHED.filename} cannot be unpacked: {str(error) or type(error).__name__}."
            raise UserError(what, "Remove it, and fetch it anew.") from error

    def _is_complete(self) -> bool:
        return bool(self._binary_folder() or self._pickle_folder())

    def _wanted(self) -> str:
        return "the unpacked folder cifar-10-batches-bin or cifar-10-batches-py"

    def _read(self, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        folder = self._binary_folder()
        if folder is None:
            return self._read_pickles(train=train)
        files = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
        records = np.concatenate([read_cifar_records(folder / file) for file in files])
        return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]

    def _read_pickles(self, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        from torchvision import datasets  # takes a second: only this version should pay for it

        folder = self._pickle_folder()
        assert folder is not None
        try:
            published = datasets.CIFAR10(str(folder.parent), train=train)  # compares the checksums
        except RuntimeError as error:
            what = f"A file in {folder} is missing, or its checksum is not the published one."
            raise UserError(what, "Remove the folder and unpack or fetch it anew.") from error
        return published.data.transpose(0, 3, 1, 2).copy(), np.array(published.targets, np.uint8)


def _idx_names(part: str) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
