"""Signing pictures with C2PA manifests, as the last thing that is done to their files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aigc_lightning.core.io.atomic import open_regular, replacing
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo, plain_metadata
from aigc_lightning.errors import UserError
from aigc_lightning.inference.trust.keys import ROOT, read_keys
from aigc_lightning.inference.trust.manifest import manifest, media_type

_TRIAL = {"aigc": '{"generated": true}', "Description": "A trial of the keys"}


class PictureSigner:
    """Signs files of pictures and films; a file that cannot be signed stays as it is.

    Args:
        folder: of the keys, see `keys.py`.

    Attributes:
        failed: the files that could not be signed.

    Raises:
        UserError: the keys cannot be used, or c2pa is not installed.
    """

    def __init__(self, folder: Path) -> None:
        keys = read_keys(folder)
        import c2pa

        self.failed: list[Path] = []
        root = folder / ROOT
        self._context = context(keys.certificates + (root.read_bytes() if root.is_file() else b""))
        info = c2pa.C2paSignerInfo(keys.algorithm, keys.certificates, keys.private_key, None)
        try:
            self._signer = c2pa.Signer.from_info(info)
            self._signed(_one_pixel(), io.BytesIO(), _TRIAL, "trial.png", None)
        except c2pa.C2paError as error:
            what = f"The keys in {folder} cannot sign: {shown(error)}."
            raise UserError(what, "C2PA needs a certificate for signing, which a root has signed.") from error

    def sign(self, path: Path, text: Mapping[str, str], parent: Path | None = None) -> None:
        """Add a signed manifest to a complete file; its pixels stay as they are.

        If that fails, the file is left unsigned, which is said and kept in `failed`.

        Args:
            path: a PNG, JPEG, WebP, GIF or MP4 file.
            text: the metadata that the file was written with, whose `aigc` is the JSON of its record.
            parent: the file that was edited.
        """
        import c2pa

        try:
            with (
                replacing(path, durable=False) as temporary,
                open_regular(path) as source,
                open(temporary, "w+b") as target,
            ):
                self._signed(source, target, text, path.name, parent)
        except (c2pa.C2paError, OSError, ValueError) as error:
            self.failed.append(path)
            echo(f"Not signed: {path}, which is complete otherwise: {error}", error=True)

    def has_signed(self, path: Path) -> bool:
        """Return whether a file carries a valid manifest that was signed with these keys."""
        import c2pa

        try:
            with open_regular(path) as file:
                kind = media_type(file.read(16))
                file.seek(0)
                reader = c2pa.Reader.try_create(kind, file, context=self._context) if kind else None
                return reader is not None and reader.get_validation_state() == "Trusted"
        except (c2pa.C2paError, OSError):
            return False

    def _signed(self, source: Any, target: Any, text: Mapping[str, str], title: str, parent: Path | None) -> None:
        """Write the signed copy of a file."""
        import c2pa

        kind = media_type(source.read(16))
        source.seek(0)
        if kind is None:
            raise ValueError("files of this kind hold no manifest")
        with c2pa.Builder(manifest(plain_metadata(text), title, parent), self._context) as builder:
            if parent is not None:
                _add_parent(builder, parent)
            builder.sign(self._signer, kind, source, target)


def context(trusted: bytes = b"") -> Any:
    """Return a context of c2pa that contacts no server and makes no thumbnails.

    Args:
        trusted: certificates of trusted roots in PEM.
    """
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if trusted:
        settings["trust"] = {"trust_anchors": trusted.decode()}
    return c2pa.Context(c2pa.Settings.from_dict(settings))


def _add_parent(builder: Any, parent: Path) -> None:
    """Add the file that was edited, with the manifest that it may have."""
    with open_regular(parent) as file:
        kind = media_type(file.read(16))
        file.seek(0)
        ingredient = {"title": shown(parent.name), "relationship": "parentOf", "label": "parent"}
        # Of other files only the name is recorded; their bytes hold no manifest that could be read.
        builder.add_ingredient(ingredient, kind or "application/octet-stream", file)


def _one_pixel() -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    file.seek(0)
    return file
