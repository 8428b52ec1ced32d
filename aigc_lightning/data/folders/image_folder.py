"""Images in a folder, in any directory structure, format, mode and size."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource
from aigc_lightning.data.decode import CorruptImageError, Profile
from aigc_lightning.data.folders.base import FolderData, Resize
from aigc_lightning.data.folders.files import FileSource
from aigc_lightning.data.folders.listing import Listing, list_images
from aigc_lightning.data.folders.prepared import PreparedFolder, PreparedSource
from aigc_lightning.errors import UserError

FolderSource = ArraySource | FileSource | PreparedSource


class ImageFolder(FolderData):
    """The images of a folder and all its subfolders.

    Hidden files, system litter such as `@eaDir`, and files with other extensions than `decode.SUFFIXES` are skipped.
    Links to folders are followed. Transparency is composited on white, EXIF rotation is applied, colours are converted
    to sRGB, and more than 8 bits are scaled: see `decode`.

    **Splits.** A root with a `train` folder and a `val` (or `valid`, `validation`) or `test` folder is split by them,
    and its other files are not used; if there is only `test`, it is also used for validation. In any other root
    `val_share` of the images is held out by a hash of their names, so that adding files never moves others between the
    parts.

    **Classes.** With `classes` "auto" the folders directly in the root, or in its `train` folder, are the classes,
    unless there are fewer than two or there are images beside them: then there are no labels. "folders" requires
    classes, "none" ignores them.

    **Unreadable files.** Up to 10,000 files with a total of up to 256 MiB are decoded before training starts;
    unreadable ones are named and dropped. In a larger folder nothing is decoded in advance: an unreadable file is named
    when it is met, and the next readable one replaces it, the same one in every process and after a resume. If more
    than `max_bad` of all files are unreadable, the run stops. Decoded images stay in memory if all of them fit into
    `MEMORY_LIMIT` at `size`; otherwise they are read again from their files.

    **Prepared folders.** `aigc data prepare` decodes the images of a large folder once and for all; its result can be
    used as the root and gives the same images in the same order. It is rejected if its source has changed.

    Args:
        root: the folder, or one that `aigc data prepare` has made of it.
        classes: whether folders are classes: "auto", "folders" or "none".

    Raises:
        UserError: an argument out of range; on first use of the data: no such folder, no images in it, no classes
            although "folders" requires them, or too many unreadable files.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        resize: Resize = "crop",
        classes: Literal["auto", "folders", "none"] = "auto",
        val_share: float = 0.1,
        max_bad: float = 0.01,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
        profile: Profile = "srgb",
    ) -> None:
        super().__init__(
            root,
            size,
            channels,
            resize,
            val_share,
            max_bad,
            batch_size,
            num_workers,
            augmentation,
            balanced,
            profile=profile,
        )
        if classes not in ("auto", "folders", "none"):
            raise UserError(f'data.classes is "{classes}".', 'Give "auto", "folders" or "none".')
        self.classes = classes

    @property
    def spec(self) -> ImageSpec:
        """Channels and size as requested, classes from the folders; lists the files, decodes none."""
        return ImageSpec(*self.shape, class_names=self._listing.class_names)

    def train_source(self) -> FolderSource:
        """Return the images to train on."""
        return self._sources["train"]

    def val_source(self) -> FolderSource:
        """Return the held-out images."""
        return self._sources["val"]

    def test_source(self) -> FolderSource:
        """Return the images of a `test` folder or, without one, the held-out images."""
        return self._sources.get("test", self._sources["val"])

    def listings(self) -> list[Listing]:
        """Return the image files; empty if they were prepared."""
        return [] if self._prepared else [self._listing]

    def left_out(self) -> list[CorruptImageError]:
        """Return the errors of files that could not be prepared."""
        return [*self._prepared.errors.values()] if self._prepared else []

    @cached_property
    def _prepared(self) -> PreparedFolder | None:
        return PreparedFolder.found(self.root, self.shape, self.resize, self.profile)

    @cached_property
    def _listing(self) -> Listing:
        if self._prepared:
            return self._prepared.listing(self.val_share, self.classes)
        return list_images(self.root, self.val_share, self.classes)

    @cached_property
    def _sources(self) -> dict[str, FolderSource]:
        if self._prepared is None:
            return {**self.load(self._listing)}
        return {**self._prepared.sources(self._listing, self.max_bad)}
