"""`aigc plugins new`: generate the package of a new plugin."""

import keyword
import re
from pathlib import Path
from typing import Literal, get_args

from aigc_lightning import __version__, plugins
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

ScaffoldKind = Literal["model", "edit", "diffusion", "data"]
_TEMPLATES = Path(__file__).with_name("templates")
_SUFFIX = ".tmpl"  # so that tools do not mistake templates for modules of this package
_PREFIX = "aigc-"
#: Names in the templates that the new class must not have.
_TAKEN = {"Adam", "Any", "AdversarialModel", "Augment", "Block", "Discs", "ImageBatch", "ImageDataModule", "ImageModel"}
_TAKEN |= {"ImageSpec", "Optimizer", "Sequence", "Tensor", "UserError", "VelocityNetwork"}


def main(argv: list[str]) -> int:
    """Generate a package to start from, with tests that pass."""
    parser = command_parser(
        "aigc plugins new",
        main.__doc__,
        "aigc plugins new sparkle",
        "aigc plugins new leaves --kind data --out packages",
    )
    parser.add_argument("name", help="name of the model or data, such as sparkle: letters, digits and -")
    parser.add_argument("--kind", choices=get_args(ScaffoldKind), default="model", help="(default: model, a GAN)")
    parser.add_argument("--out", type=Path, default=Path(), help="where to create the package's folder (default: here)")
    options = parse(parser, argv)
    folder = write_package(options.name, options.kind, options.out)
    stem = folder.name.removeprefix(_PREFIX).replace("-", "_")
    preset = f"dcgan_{stem}" if options.kind == "data" else f"{stem}_digits"
    echo(f"{folder} is ready. Next:")
    for step in (("pip", "install", "-e", folder), ("pytest", folder), ("aigc", "fit", "--config", preset)):
        echo(f"  {command(*step)}")
    return 0


def write_package(name: str, kind: ScaffoldKind, out: Path) -> Path:
    """Write a package that can be installed, trained and published, and return its folder.

    Args:
        name: name of the model or data; the package is called `aigc-<name>`.
        kind: "model" for a GAN, "edit" for an image-to-image model, "diffusion" for a flow-matching model, "data"
            for images.
        out: the folder in which to create the package's folder.

    Raises:
        UserError: the name is invalid or taken, or the folder exists or cannot be written.
    """
    stem = _stem(name, kind)
    folder = out / f"{_PREFIX}{stem.replace('_', '-')}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already.", "Choose another name, another --out, or remove it.")
    words = _words(stem, kind)
    try:
        for path, text in _files(kind, words).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.", "Choose another --out.") from error
    return folder


def _stem(name: str, kind: ScaffoldKind) -> str:
    bare = name.removeprefix(_PREFIX)
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", bare) or len(bare) > 40:
        proposal = re.sub(r"[^a-z0-9]+", "-", bare.lower()).strip("-").lstrip("0123456789-")[:40]
        hint = "Use up to 40 lower-case letters, digits and -, beginning with a letter"
        raise UserError(f"{name!r} is not a valid name for a plugin.", f"{hint}, such as {proposal or 'sparkle'}.")
    stem = bare.replace("-", "_")
    if keyword.iskeyword(stem) or keyword.iskeyword(stem.capitalize()):
        raise UserError(f"{name!r} is a keyword of Python.", "Choose another name.")
    if plugins.normalized(_PREFIX + stem) == plugins.BUILTIN:
        raise UserError(f"{plugins.BUILTIN} is this package itself.", "Choose another name.")
    group: plugins.Kind = "data" if kind == "data" else "model"
    for plugin in plugins.plugins(group):
        if plugins.normalized(plugin.name) == plugins.normalized(stem):
            raise UserError(
                f"{plugin.distribution} {plugin.version} already provides {group} {plugin.name!r}.",
                "Choose another name.",
            )
    return stem


def _words(stem: str, kind: ScaffoldKind) -> dict[str, str]:
    camel = "".join(part.capitalize() for part in stem.split("_"))
    suffix = "Images" if kind == "data" else "Model"
    return {
        "PACKAGE": f"{_PREFIX}{stem.replace('_', '-')}",
        "MODULE": f"{_PREFIX}{stem}".replace("-", "_"),
        "STEM": stem,
        "CLASS": f"{camel}{suffix}" if camel in _TAKEN else camel,
        "TITLE": stem.replace("_", " ").capitalize(),
        "GROUP": "data" if kind == "data" else "models",
        "FILE": "data" if kind == "data" else "model",
        "MINOR": ".".join(__version__.split(".")[:2]),
    }


def _files(kind: ScaffoldKind, words: dict[str, str]) -> dict[Path, str]:
    """Return the text of every file of the package by its path."""
    files = {}
    for part in ("common", kind):
        root = _TEMPLATES / part
        for source in sorted(root.rglob(f"*{_SUFFIX}")):
            path = str(source.relative_to(root)).removesuffix(_SUFFIX).replace("src/package", "src/@MODULE@")
            files[Path(_filled(path, words))] = _filled(source.read_text(encoding="utf-8"), words)
    return files


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], text)
