"""Every registered built-in model and dataset passes the conformance kit, as plugins must."""

from aigc_lightning import plugins
from aigc_lightning.testing import DataConformance, ModelConformance


class TestDCGAN(ModelConformance):
    model = "dcgan"


class TestDigits(DataConformance):
    data = "digits"


def test_every_built_in_model_has_a_suite_here() -> None:
    suites = {suite.model for suite in ModelConformance.__subclasses__() if suite.__module__ == __name__}
    assert {plugin.name for plugin in plugins.plugins("model") if plugin.is_builtin} == suites
