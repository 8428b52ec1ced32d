"""The table of what the models of this package export, in its README."""

from pathlib import Path

from aigc_lightning import ImageSpec
from aigc_lightning.testing.export_checks import missing_rows

from aigc_restore.models.inpaint import Inpaint
from aigc_restore.models.sr import SuperResolution

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_is_true():
    scaled = ImageSpec(3, 16, 16, task="restoration", scale=2)
    masked = ImageSpec(3, 16, 16, task="restoration", masks=True)
    models = {
        "`inpaint`": Inpaint(masked, "gated", network_options={"width": 2}),
        "`sr`": SuperResolution(scaled, network_options={"width": 4, "num_blocks": 1}),
    }
    for model in models.values():
        model.configure_model()
    assert missing_rows(PAGE.read_text(), models) == []
