"""`aigc data deidentify`: pictures without recognisable faces and without metadata."""

from collections import Counter
from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted

_ABOUT = """Copy the pictures of a folder with faces obscured, and without metadata: place, serial numbers, names,
times, thumbnails, comments and colour profiles. Each result is searched for faces again before it counts.

The detector finds upright, frontal faces; in profile, turned, covered or small it misses them, of which --detector
centerface finds more. Neither knows number plates, tattoos or names on signs. Look at the results, above all at those
without any face.
Of --faces, only fill leaves nothing: from blurred and pixelated faces, models still recognise some people."""


def main(argv: list[str]) -> int:
    """Obscure faces and remove metadata from the pictures of a folder."""
    parser = command_parser(
        "aigc data deidentify",
        _ABOUT,
        "aigc data deidentify photographs without_faces --faces fill",
        note="After an interruption the same command continues; later it reads only new and changed files.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of pictures; other files are not copied")
    parser.add_argument("target", metavar="DST", type=Path, help="folder to create or continue")
    parser.add_argument("--faces", required=True, choices=("blur", "pixelate", "fill"), help="what becomes of faces")
    parser.add_argument(
        "--detector",
        choices=("cascade", "centerface"),
        default="cascade",
        help="what finds faces; centerface also finds turned and small ones, and needs the extra faces",
    )
    options = parse(parser, argv)

    from aigc_lightning.inference.deidentification import REPORT, deidentify

    target = options.target.expanduser()
    with counting("De-identifying") as watch:
        outcome = deidentify(options.source.expanduser(), target, options.faces, watch, options.detector)
    for path, error in outcome.skipped.items():
        echo(f"Left out {shown(path)}: {error.what}", error=True)
    faces = [len(one.faces) for one in outcome.done]
    echo(f"{counted(len(faces), 'picture')} in {target}, {outcome.made:,} made now; report: {target / REPORT}")
    echo(
        f"{counted(sum(faces), 'part')} obscured that looked like faces; none in {counted(faces.count(0), 'picture')}."
    )
    removed = Counter(what for one in outcome.done for what in one.removed)
    if removed:
        listed = ", ".join(f"{what} ({count:,})" for what, count in removed.most_common())
        echo(f"Removed with all other metadata: {listed}.")
    return 1 if outcome.skipped else 0
