"""`aigc verify`: what pictures reveal about their origin."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.config.signing import default_keys
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from aigc_lightning.inference.trust.verification import Manifest, Origin
    from aigc_lightning.inference.trust.watermark import PictureMarker, Watermark

_ABOUT = """Say what pictures and films reveal about their origin: this package's record, and a signed C2PA manifest.

A record is plain text, which anybody can write, change or remove. A manifest shows that a file has not changed since it
was signed; by whom, only if the signer's root is trusted: that of your own keys, and those of --trust.
The exit code is 1 if a manifest is broken, a record contradicts it, or a file cannot be read."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4")
_UNKNOWN = "unknown: how the picture was made. That nothing is found does not mean that it is a photograph."
_LIMITS = {
    "trusted": "unknown: whether what the signer says is true.",
    "valid": "unknown: who signed it (the name can be anybody's; see --trust), and whether what they say is true.",
    "broken": "unknown: what was changed. Do not rely on what the manifest says.",
}


def verify(argv: list[str]) -> int:
    """Say what pictures reveal about their origin: our record, and a signed manifest."""
    parser = command_parser(
        "aigc verify",
        _ABOUT,
        "aigc verify samples/*.png",
        "aigc verify walk.mp4 --trust root.pem --json",
    )
    parser.add_argument("files", nargs="+", type=Path, help="pictures and films, and folders of them")
    parser.add_argument(
        "--trust", action="append", type=Path, default=[], metavar="FILE", help="certificates of trusted roots, in PEM"
    )
    parser.add_argument("--watermark", metavar="RUN", help="also look for the watermark of this run or checkpoint")
    parser.add_argument("--json", action="store_true", help="as JSON, a list with one mapping per file")
    options = parse(parser, argv, intermixed=True)

    from aigc_lightning.inference.trust.keys import ROOT
    from aigc_lightning.inference.trust.verification import Verifier

    own = default_keys() / ROOT
    verifier = Verifier(options.trust)
    if own.is_file() and verifier.has_c2pa:
        verifier = Verifier([own, *options.trust])
    marker = None
    if options.watermark is not None:
        from aigc_lightning.inference.trust.watermark import PictureMarker

        marker = PictureMarker(options.watermark)
    files = [path for given in options.files for path in _files(given)]
    findings = [_found(verifier, marker, path) for path in files]
    if options.json:
        import json

        rows = [_plain(path, found) for path, found in zip(files, findings, strict=True)]
        echo(*json.dumps(rows, indent=2).split("\n"))
    else:
        for path, found in zip(files, findings, strict=True):
            echo(path, *(f"  {line}" for line in _lines(found)))
    return 1 if any(map(_is_bad, findings)) else 0


def _files(given: Path) -> list[Path]:
    """Return the pictures and films below a folder, in order; a file as it is.

    Raises:
        UserError: the folder has none.
    """
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"There are no pictures or films in {given}.", f"Known are {', '.join(_SUFFIXES)}.")
    return found


def _found(verifier: Any, marker: "PictureMarker | None", path: Path) -> "Origin | str":
    """Return what a file reveals, or why it cannot be read."""
    try:
        found: Origin = verifier.check(path)
        if marker:
            found = replace(found, watermark=marker.read(path))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return found


def _is_bad(found: "Origin | str") -> bool:
    return isinstance(found, str) or found.manifest.state == "broken" or found.differs


def _plain(path: Path, found: "Origin | str") -> dict[str, Any]:
    if isinstance(found, str):
        return {"file": str(path), "error": found}
    from dataclasses import asdict

    return {"file": str(path), **asdict(found), "differs": found.differs}


def _lines(found: "Origin | str") -> list[str]:
    if isinstance(found, str):
        return [f"cannot be read: {found}"]
    lines = [f"record: {_about_record(found)}", f"C2PA: {_about_manifest(found.manifest)}"]
    lines += _actions(found.manifest)
    if found.watermark:
        lines.append(f"watermark: {_about_watermark(found.watermark)}")
    if found.differs:
        lines.append("The record contradicts the signed manifest: one of them was exchanged.")
    if found.manifest.state == "unchecked":
        lines.append("unknown: whether it is signed. Install c2pa: pip install 'aigc-lightning[c2pa]'")
    marked = found.watermark is not None and found.watermark.payload is not None
    if not found.record and not marked and found.manifest.state in ("none", "unchecked"):
        return [*lines, _UNKNOWN]
    if marked:
        lines.append("unknown: who wrote the watermark; everybody who has its run can.")
    if found.record and found.manifest.state == "none":
        return [*lines, "unknown: whether the record is true; it is text that anybody can write."]
    return [*lines, *filter(None, [_LIMITS.get(found.manifest.state)])]


def _about_record(found: "Origin") -> str:
    if found.unread:
        return f"not read: {found.unread}"
    record = found.record
    if record is None:
        return "none"
    made = "generated" if record["generated"] else "edited"
    model = f" by {record['model']}, checkpoint sha256 {record.get('sha256')}" if "model" in record else ""
    seeds = record.get("seeds")
    drawn = f", seed {_short(', '.join(map(str, seeds)))}" if isinstance(seeds, list) and seeds else ""
    operations = f", operations {record['operations']}" if record.get("operations") else ""
    return f"{made}{model}{drawn}{operations}"


def _about_watermark(mark: "Watermark") -> str:
    if mark.unread:
        return f"not read: {mark.unread}"
    bits = f"{mark.confidence:.0%} of its bits agree{f' in {mark.frames} frames' if mark.frames > 1 else ''}"
    chance = f"pictures without one pass with a probability of {mark.false_positive_rate:.1g}"
    return f"payload {mark.payload}, {bits}; {chance}" if mark.payload else f"none of this run ({bits})"


def _about_manifest(manifest: "Manifest") -> str:
    by = f"signed as {manifest.signer!r}, written by {manifest.program}"
    return {
        "none": "no manifest",
        "unchecked": "not checked, because c2pa-python is not installed",
        "trusted": f"trusted: unchanged since it was {by}; the root of the signature is trusted here",
        "valid": f"valid: unchanged since it was {by}; the root of the signature is not trusted here",
        "broken": f"broken: {', '.join(manifest.reasons) or 'it cannot be validated'}",
    }[manifest.state]


def _actions(manifest: "Manifest") -> list[str]:
    if manifest.state not in ("trusted", "valid"):
        return []
    return [
        "  says: "
        + ", ".join(
            filter(None, (action["action"], action["source_type"].rpartition("/")[2], _short(action["description"])))
        )
        for action in manifest.actions
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
