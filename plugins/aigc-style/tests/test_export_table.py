"""The table of what the models of this package export, in its README."""

from pathlib import Path

from aigc_lightning import ImageSpec
from aigc_lightning.testing.export_checks import missing_rows

from aigc_style.adain import AdaIN
from aigc_style.style_fast import StyleFast

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_is_true() -> None:
    models = {
        "`adain`": AdaIN(ImageSpec(3, 32, 32, task="unpaired"), width=4),
        "`style_fast`": StyleFast(ImageSpec(3, 32, 32), width=4, num_blocks=1, style_size=32),
    }
    assert missing_rows(PAGE.read_text(), models) == []
