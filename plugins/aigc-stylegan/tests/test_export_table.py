"""The table of what the models of this package export, in its README."""

from pathlib import Path

from aigc_lightning import ImageSpec
from aigc_lightning.testing.export_checks import missing_rows

from aigc_stylegan.progan import ProGAN
from aigc_stylegan.stylegan2 import StyleGAN2

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_is_true() -> None:
    spec = ImageSpec(1, 16, 16)
    models = {
        "`progan`": ProGAN(spec, channel_base=128, channel_max=8),
        "`stylegan2`": StyleGAN2(spec, channel_base=128, channel_max=8),
    }
    assert missing_rows(PAGE.read_text(), models) == []
