"""`aigc data`: list data, inspect it, and prepare it. Nothing heavy is imported before it is needed."""

from aigc_lightning.commands import listings
from aigc_lightning.commands.data.check import main as check
from aigc_lightning.commands.data.deidentify import main as deidentify
from aigc_lightning.commands.data.encode import main as encode
from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.commands.data.preview import main as preview
from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.commands.data.stats import main as stats
from aigc_lightning.commands.dispatch import dispatch

_HELP = """List data, inspect it before training, and prepare it.

Usage: aigc data [--json]                        what --data accepts
       aigc data preview DATA [--out grid.png]   a picture of what a model sees, augmented as in training
       aigc data check DATA                      bad files, sizes, duplicates, overlap of training and held-out images
       aigc data stats DATA [--out stats.png]    numbers, sizes, brightness and balance of classes
       aigc data deidentify SRC DST --faces fill pictures without recognisable faces and without metadata
       aigc data prepare SRC DST --size 64       a large folder's images at one size in one file, for image_folder
       aigc data encode RUN SRC DST              images as a trained model's latents or tokens
       aigc data shard SRC DST                   a folder of images as tar shards, for `--data shards`

DATA is a name (see: aigc data), a preset, or a config file; --data.OPTION V sets its options.

Examples:
  aigc data preview digits --out digits.png
  aigc data check image_folder --data.root photographs
  aigc data preview paired_images --data.root facades --data.direction BtoA
  aigc data shard photographs shards"""
_SUB_COMMANDS = {
    "preview": preview,
    "check": check,
    "stats": stats,
    "deidentify": deidentify,
    "prepare": prepare,
    "encode": encode,
    "shard": shard,
}


def data(argv: list[str]) -> int:
    """List the data that `--data` takes; preview, check and stats look at it, the others convert it."""
    return dispatch("aigc data", argv, _SUB_COMMANDS, _HELP, default=listings.data)
