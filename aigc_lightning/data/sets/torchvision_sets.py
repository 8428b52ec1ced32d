"""Well-known small datasets, read from their published files, which are downloaded on request.

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
    """Return the folder for datasets: $AIGC_DATA, by default ~/.cache/aigc_lightning/data."""
    return Path(os.environ.get("AIGC_DATA") or "~/.cache/aigc_lightning/data").expanduser()


class SizedSource(ArraySource):
    """Small images in memory that are resized on request.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        size: height and width of the returned images. Images of 28 pixels are padded to 32 with black, as is usual for
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
    """Base class of the datasets in this file: trains on the official training images and holds out the test images.

    As is usual for these datasets, the test images serve for both validation and testing: a model selected by its
    validation scores has seen them.

    Args:
        root: folder that has or will get the files; `data_folder()` by default.
        size: height and width in pixels.
        download: download missing files.
        batch_size: images per process in a step.
        num_workers: number of loader processes; 0 is fastest, since the images are in memory.
        augmentation: augmentation during training.
        balanced: show all classes equally often during training, whatever their share of the images.

    Raises:
        UserError: a size below 8; on first use of the data: files are missing, damaged or cannot be downloaded.
    """

    said_by_user = ("download",)
    published_name: str  # torchvision's spelling
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
        """Channels and classes of the published dataset at the requested size; reads no file."""
        return ImageSpec(self.channels, self.size, self.size, self.class_names)

    def prepare_data(self) -> None:
        """Download missing files if requested; Lightning calls this in one process per machine."""
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
        self.prepare_data()  # needed outside a trainer; inside one, it has already been called
        if not self._is_complete():
            hint = "Download it with --data.init_args.download true, or"
            raise UserError(f"{self.published_name} is not in {self.root}.", f"{hint} put {self._wanted()} there.")
        images, labels = self._read(train=train)
        if len(labels) and labels.max() >= len(self.class_names):
            raise UserError(f"{self.published_name} in {self.root} has label {labels.max()}.", "Download it again.")
        return SizedSource(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)), self.size)

    def _fetch(self) -> None:
        """Download the published files ourselves: torchvision limits neither time nor disk space."""
        try:
            for file in self._published():
                file.fetch()
        except DownloadError as error:
            hint = f"Check the network, or download the files elsewhere and put {self._wanted()} there."
            what = f"{self.published_name} could not be downloaded to {self.root}: {error.reason}."
            raise UserError(what, hint) from error

    @abstractmethod
    def _published(self) -> list[PublishedFile]:
        """Return the files to download."""

    @abstractmethod
    def _is_complete(self) -> bool:
        """Return whether all files exist."""

    @abstractmethod
    def _wanted(self) -> str:
        """Describe the files that belong in the root."""

    @abstractmethod
    def _read(self, *, train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return images (N, C, H, W) and labels (N,)."""


class MNIST(PublishedSet):
    """70,000 handwritten digits, 28x28 grey, ten classes; 60,000 of them for training.

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
        from torchvision import datasets  # the import takes a second; only a download should pay for it

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
            what = f"{image_path} has {len(images)} images but {label_path} has {len(labels)} labels."
            raise UserError(what, "Put files of one dataset together.")
        return images[:, None], labels


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, 28x28 grey, ten classes; 60,000 of them for training.

    Files and sizes as for `MNIST`, with `FashionMNIST` as the folder's name.
    """

    published_name = "FashionMNIST"
    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )


class CIFAR10(PublishedSet):
    """60,000 small photographs, 32x32 RGB, ten classes; 50,000 of them for training.

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
            PUBLISHED(str(self.root), download=True)  # finds the file and unpacks it
        except (OSError, RuntimeError) as error:
            what = f"{self.root / PUBLISHED.filename} cannot be unpacked: {str(error) or type(error).__name__}."
            raise UserError(what, "Remove it and download it again.") from error

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
        from torchvision import datasets  # the import takes a second; only this version should pay for it

        folder = self._pickle_folder()
        assert folder is not None
        try:
            published = datasets.CIFAR10(str(folder.parent), train=train)  # verifies the checksums
        except RuntimeError as error:
            what = f"A file in {folder} is missing, or its checksum is wrong."
            raise UserError(what, "Remove the folder and unpack or download it again.") from error
        return published.data.transpose(0, 3, 1, 2).copy(), np.array(published.targets, np.uint8)


def _idx_names(part: str) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
