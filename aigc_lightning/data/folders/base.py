"""Base class of all data from a folder of image files."""

from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.io.redaction import redacted_address
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.data.decode import CorruptImageError, Profile, decode, known_profile, resize_rule
from aigc_lightning.data.folders.files import FileSource, load_files
from aigc_lightning.data.folders.listing import Listing
from aigc_lightning.errors import UserError

Resize = Literal["crop", "pad", "stretch"]


class FolderData(ImageDataModule):
    """Base class of data from image files; see `ImageFolder` for the rules that apply to all of them.

    Subclasses spell these arguments out, with the same types and defaults, so that signatures, help and completion show
    them; they describe those alone that mean something else to them.

    Args:
        root: the folder of the images.
        size: of the images given to the model: one number of pixels for squares, or (height, width).
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        resize: "crop" (cover `size`, cut out the centre), "pad" (fit into `size` on white) or "stretch".
        val_share: share of the images to hold out where the root has no splits, between 0 and 1.
        max_bad: share of the files that may be bad, from 0 to 1.
        num_workers: loader processes; 0 is fastest for images that stay in memory.
        profile: "srgb" converts from the ICC profiles and gammas of the files, "keep" leaves their numbers.

    Raises:
        UserError: an argument out of range.
    """

    #: Whether the root may be a URL.
    takes_addresses = False

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        resize: Resize = "crop",
        val_share: float = 0.1,
        max_bad: float = 0.01,
        batch_size: int = 64,
        num_workers: int = 0,
        augmentation: Augment | None = None,
        balanced: bool = False,
        profile: Profile = "srgb",
    ) -> None:
        super().__init__(batch_size, num_workers, augmentation, balanced)
        sides = (size, size) if isinstance(size, int) else tuple(size)
        if len(sides) != 2:
            raise UserError(f"data.size has {len(sides)} numbers.", "Give one number, or height and width.")
        if not 0 < val_share < 1:
            raise UserError(f"data.val_share is {val_share}.", "Give a fraction between 0 and 1, such as 0.1.")
        if not 0 <= max_bad <= 1:
            raise UserError(f"data.max_bad is {max_bad}.", "Give a fraction from 0 to 1, such as 0.01.")
        resize_rule(resize)
        if is_address(root) and not self.takes_addresses:
            what = f"data.root is the address {redacted_address(str(root))}, but {type(self).__name__} reads folders."
            raise UserError(what, "Download it first, or pack it with `aigc data shard` and use --data shards.")
        self.root, self.resize, self.profile = Path(root).expanduser(), resize, known_profile(profile)
        self.val_share, self.max_bad = val_share, max_bad
        self.shape = ImageSpec(channels, *sides).shape

    def listings(self) -> list[Listing]:
        """Return the files in use, one listing per kind of image; empty if images are not separate files."""
        return []

    def left_out(self) -> list[CorruptImageError]:
        """Return the known errors of images that no source has; empty if `listings` has all files."""
        return []

    def read(self, path: Path) -> Tensor:
        """Return the image of a file at the requested size, uint8 (C, H, W)."""
        channels, height, width = self.shape
        return decode(path, channels, size=(height, width), resize=self.resize, profile=self.profile)

    def load(self, listing: Listing) -> dict[str, ArraySource | FileSource]:
        """Return a source of single images for each part of a listing."""
        channels, height, width = self.shape
        # Not a method: it is sent to loader processes, and a method would drag along the trainer and its model.
        read = partial(decode, channels=channels, size=(height, width), resize=self.resize, profile=self.profile)
        return load_files(listing, read, self.shape, self.max_bad, self.num_workers)
