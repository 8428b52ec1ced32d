"""Pictures that are uploaded: checked by their content, kept in a private folder until the server ends."""

import io
import secrets
import warnings
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from aigc_lightning.errors import UserError
from aigc_lightning.ui.paths import NotThereError

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
_MOST_PIXELS = 24_000_000
_MOST_KEPT = 32  # uploads; the oldest is removed


class Uploads:
    """Uploaded pictures by id.

    Args:
        folder: private folder that exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: OrderedDict[str, Path] = OrderedDict()

    def add(self, content: bytes) -> dict[str, object]:
        """Keep a picture; return its id and size.

        Raises:
            UserError: it is no PNG, JPEG or WebP file, is damaged, or has more than 24 million pixels.
        """
        kind, size = _checked(content)
        identity = secrets.token_hex(8)
        path = self._folder / f"{identity}{_SUFFIXES[kind]}"
        path.write_bytes(content)
        self._paths[identity] = path
        if len(self._paths) > _MOST_KEPT:
            self._paths.popitem(last=False)[1].unlink(missing_ok=True)
        return {"id": identity, "width": size[0], "height": size[1]}

    def path(self, identity: str) -> Path:
        """Return the file of an upload.

        Raises:
            NotThereError: there is none.
        """
        if identity not in self._paths:
            raise NotThereError
        return self._paths[identity]


def _checked(content: bytes) -> tuple[str, tuple[int, int]]:
    """Return the kind and size of a picture after decoding it once; the size is checked before that."""
    hint = "Give a PNG, JPEG or WebP picture of up to 24 million pixels."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=list(_SUFFIXES)) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise UserError(f"The picture has {image.width}x{image.height} pixels.", hint)
                image.load()
                return str(image.format), image.size
    except UserError:
        raise
    except Exception as error:  # decoders raise anything for damaged files
        raise UserError("The file is not a picture, or is damaged.", hint) from error
