"""The registry, with fake packages: what is found, by which name, and that nothing of it is imported."""

import sys
from collections.abc import Iterator

import pytest
import torch

from aigc_lightning import ImageModel, __version__, plugins
from aigc_lightning.errors import UserError

SPARK = '''
from aigc_lightning.models.dcgan import DCGAN
class Spark(DCGAN):
    """Sparks of light."""
'''


def install(site, name="aigc-spark", entry="spark", source=SPARK, **options):
    """Install a package with one model."""
    module = name.replace("-", "_").lower()
    site.install(name, {"models": {entry: f"{module}:Spark"}}, {f"{module}.py": source}, **options)


def names(kind="model"):
    return {plugin.name for plugin in plugins.plugins(kind) if not plugin.is_builtin}


def test_what_is_found_is_not_imported(site):
    install(site, version="1.2")
    plugin = plugins.find("model", "spark")
    assert (plugin.full_name, plugin.version, plugin.class_path) == ("aigc-spark:spark", "1.2", "aigc_spark.Spark")
    assert (plugin.summary(), plugin.problem(), plugin.api) == ("Sparks of light.", "", plugins.API_VERSION)
    assert "aigc_spark" not in sys.modules and site.imported == []
    assert plugin.load().__name__ == "Spark"
    assert site.imported == ["aigc_spark.py"]


@pytest.mark.parametrize("entry", ["night_sky", "Night-Sky"])
@pytest.mark.parametrize(
    "name", ["night_sky", "night-sky", "NIGHT_sky", "AIGC.Spark:night-sky", "aigc_spark:Night_Sky"]
)
def test_case_and_hyphens_do_not_matter(entry, name, site):
    install(site, name="Aigc-Spark", entry=entry)
    assert plugins.find("model", name).class_path == "aigc_spark.Spark"


def test_a_built_in_keeps_its_name(site):
    install(site, entry="DCGAN")
    assert plugins.find("model", "dcgan").is_builtin
    assert plugins.find("model", "DCGAN").is_builtin
    assert plugins.find("model", "aigc-lightning:dcgan").is_builtin
    assert plugins.find("model", "aigc-spark:dcgan").class_path == "aigc_spark.Spark"


def test_two_packages_with_one_name(site):
    install(site)
    install(site, name="other-spark", entry="Spark")
    with pytest.raises(UserError) as error:
        plugins.find("model", "spark")
    assert "aigc-spark:spark" in error.value.hint and "other-spark:Spark" in error.value.hint
    assert plugins.find("model", "other-spark:spark").class_path == "other_spark.Spark"
    first, second = (plugins.find("model", f"{owner}:spark") for owner in ("aigc-spark", "other-spark"))
    assert plugins.clashing(first) == (second,) and plugins.clashing(second) == (first,)
    assert plugins.clashing(plugins.find("model", "dcgan")) == ()


def test_a_class_is_found_where_it_is_defined_and_where_it_is_shown(site):
    files = {"spark/__init__.py": "from spark.model import Spark\n", "spark/model.py": SPARK}
    site.install("aigc-spark", {"models": {"spark": "spark:Spark"}}, files)
    for path in ("spark.Spark", "spark.model.Spark"):
        found = plugins.find_by_class_path("model", path)
        assert found is not None and found.name == "spark"
    assert plugins.find("model", "spark").summary() == "Sparks of light."
    assert plugins.find_by_class_path("model", "spark.model.Other") is None
    assert plugins.find_by_class_path("data", "spark.Spark") is None
    assert site.imported == []


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("", {"spark", "other"}),
        (" , ", {"spark", "other"}),
        ("aigc-spark", {"spark"}),
        ("AIGC_Spark", {"spark"}),
        ("aigc-spark, other-spark", {"spark", "other"}),
        ("-aigc-spark", {"other"}),
        ("-AIGC_SPARK", {"other"}),
        ("aigc-spark,-aigc-spark", set()),
        ("nobody", set()),
        ("-nobody", {"spark", "other"}),
    ],
)
def test_packages_that_the_variable_leaves(setting, left, site, monkeypatch):
    install(site)
    install(site, name="other-spark", entry="other")
    monkeypatch.setenv("AIGC_PLUGINS", setting)
    both = {"spark", "other"}  # whatever else is installed
    assert names() & both == left
    assert {plugin.name for plugin in plugins.denied()} & both == both - left
    assert plugins.find("model", "dcgan").is_builtin
    assert plugins.unknown_in_allow_variable() == [name for name in ("nobody", "-nobody") if name == setting]
    for name in both - left:
        with pytest.raises(UserError, match="AIGC_PLUGINS excludes"):
            plugins.find("model", name)
        owner = {"spark": "aigc_spark", "other": "other_spark"}[name]
        assert plugins.find_by_class_path("model", f"{owner}.Spark") is None
    assert site.imported == []


@pytest.mark.parametrize("text", ["aigc_api = 99", "aigc_api: int = 99", "aigc_api = 0"])
def test_another_api_is_refused_before_its_import(text, site):
    install(site, source=f"{SPARK}    {text}\n")
    number = text.split()[-1]
    plugin = plugins.find("model", "spark")
    assert plugin.api == int(number)
    assert number in plugin.problem() and f"has {plugins.API_VERSION}" in plugin.problem()
    with pytest.raises(UserError, match=f"plugin API {number} but aigc-lightning {__version__} has 1"):
        plugin.load()
    assert site.imported == []


def test_another_api_that_only_shows_on_import(site):
    install(site, source=f"{SPARK}    aigc_api = 98 + 1\n")
    with pytest.raises(UserError, match="plugin API 99"):
        plugins.find("model", "spark").load()


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("aigc-lightning>=99", False),
        ("AIGC_Lightning (>=99)", False),
        ("aigc-lightning==99.0.dev1", False),
        ("aigc-lightning[test]>=99,<100", False),
        ("aigc-lightning<0.0.1", False),
        (f"aigc-lightning>={__version__}", True),
        ("aigc-lightning", True),
        ("aigc-lightning>=99; extra == 'new'", True),
        ("aigc-lightning-extras>=99", True),
        ("torch>=99", True),
        ("aigc-lightning ~~ nonsense", True),
    ],
)
def test_a_package_that_needs_another_version_is_refused_before_its_import(requirement, met, site):
    install(site, requires=["numpy", requirement])
    plugin = plugins.find("model", "spark")
    assert (plugin.refusal() == "") == met
    if not met:
        with pytest.raises(UserError) as error:
            plugin.load()
        assert "99" in error.value.what or "0.0.1" in error.value.what
        assert __version__ in error.value.what and "Update aigc-lightning" in error.value.hint
        assert site.imported == []


BROKEN = {
    "import error": ("import nowhere_at_all\n", "nowhere_at_all"),
    "error": ("raise RuntimeError('no luck\\non two lines')\n", "RuntimeError: no luck on two lines"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "syntax": ("class Spark(:\n", "SyntaxError"),
    "no attribute": ("Other = 1\n", "Spark"),
    "no class": ("Spark = 1\n", "not a subclass of aigc_lightning.ImageModel"),
    "wrong base": ("class Spark:\n    pass\n", "not a subclass of aigc_lightning.ImageModel"),
    "base of another kind": (
        "from aigc_lightning.data.base import ImageDataModule\nclass Spark(ImageDataModule):\n    pass\n",
        "not a subclass of aigc_lightning.ImageModel",
    ),
    "base of a library": (
        "import lightning.pytorch as pl\nclass Spark(pl.LightningModule):\n    pass\n",
        "not a subclass of aigc_lightning.ImageModel",
    ),
    "changes torch": (
        f"import torch\ntorch.set_default_dtype(torch.float64)\n{SPARK}",
        "importing it changes the default dtype of torch from torch.float32 to torch.float64",
    ),
}
#: What a class may derive from, by the statements before it and its base.
BASES = {
    "directly": ("from aigc_lightning import ImageModel", "ImageModel"),
    "by its module": ("import aigc_lightning.core.image_model", "aigc_lightning.core.image_model.ImageModel"),
    "by another name": ("import aigc_lightning as al", "al.ImageModel"),
    "by a module of a package": ("from aigc_lightning.core import adversarial", "adversarial.AdversarialModel"),
    "beside another": ("import abc\nfrom aigc_lightning.models.vae import VAE", "abc.ABC, VAE"),
    "through a class of its own": ("from aigc_lightning import ImageModel\nclass Base(ImageModel):\n    pass", "Base"),
    "unknown": ("from aigc_lightning.models.vae import *", "VAE"),
    "made": ("import aigc_lightning\ndef base():\n    return aigc_lightning.ImageModel", "base()"),
}


@pytest.fixture
def float32() -> Iterator[None]:
    """Restore the default dtype afterwards."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_says_what_is_wrong(case, site):
    source, said = BROKEN[case]
    install(site, source=source)
    plugin = plugins.find("model", "spark")
    with pytest.raises(UserError) as error:
        plugin.load()
    assert said in error.value.what and "aigc-spark 1.0" in error.value.what
    assert "\n" not in error.value.what and error.value.hint


@pytest.mark.parametrize("case", [case for case in BROKEN if case not in ("error", "no class", "changes torch")])
def test_what_is_wrong_as_far_as_the_source_shows(case, site):
    source, said = BROKEN[case]
    install(site, source=source)
    said = "ends the program" if case == "exit" else said
    assert said in plugins.find("model", "spark").problem()
    assert site.imported == []


@pytest.mark.parametrize("case", BASES)
def test_a_class_with_the_right_base_is_not_suspected(case, site):
    before, base = BASES[case]
    install(site, source=f"{before}\nclass Spark({base}):\n    pass\n")
    assert plugins.find("model", "spark").problem() == ""
    assert issubclass(plugins.find("model", "spark").load(), ImageModel)


def test_files_that_are_gone(site):
    site.install("aigc-spark", {"models": {"spark": "aigc_gone.model:Spark"}}, {})
    plugin = plugins.find("model", "spark")
    assert "its files are gone" in plugin.problem() and plugin.summary() == ""
    with pytest.raises(UserError, match="its files are gone: there is no module 'aigc_gone'") as error:
        plugin.load()
    assert "pip uninstall aigc-spark" in error.value.hint


@pytest.mark.parametrize(
    "damage", ["no metadata", "metadata is binary", "entry points are binary", "entry points are nonsense"]
)
def test_damaged_metadata_hide_no_other_package(damage, site):
    install(site)
    install(site, name="other-spark", entry="other")
    info = site.folder / "other_spark-1.0.dist-info"
    if damage == "no metadata":
        (info / "METADATA").unlink()
    else:
        file = info / ("METADATA" if "metadata" in damage else "entry_points.txt")
        file.write_bytes(
            b"\xff\xfe\x00" if "binary" in damage else b"[aigc_lightning.models]\nthis is nothing\n= = :\n"
        )
    plugins.forget()
    assert "spark" in names()
    assert plugins.find("model", "dcgan").is_builtin


def test_presets_of_a_package(site):
    files = {
        "spark/__init__.py": "",
        "spark/model.py": SPARK,
        "spark/configs/bright.yaml": "# Bright.\nmodel: spark\n",
        "spark/configs/deep.yaml": "model:\n  class_path: spark.model.Spark\n",
        "spark/configs/alien.yaml": "model: dcgan\n",
        "spark/configs/damaged.yaml": "model: [\n",
        "spark/configs/dcgan_digits.yaml": "model: dcgan\n",
    }
    site.install("aigc-spark", {"models": {"spark": "spark.model:Spark"}, "configs": {"x": "spark.configs"}}, files)
    assert plugins.find_preset("bright") == plugins.find_preset("AIGC_spark:Bright")
    assert plugins.find_preset("bright") == site.folder / "spark/configs/bright.yaml"
    assert site.folder not in plugins.find_preset("dcgan_digits").parents
    assert site.folder in plugins.find_preset("aigc-spark:dcgan-digits").parents
    assert [name for name, _, _ in plugins.presets_of(plugins.find("model", "spark"))] == ["bright", "deep"]
    site.install("b", {"configs": {"b": "bee.configs"}}, {"bee/__init__.py": "", "bee/configs/bright.yaml": ""})
    with pytest.raises(UserError, match="Several packages") as error:
        plugins.find_preset("bright")
    assert "aigc-spark:bright" in error.value.hint and "b:bright" in error.value.hint
    with pytest.raises(UserError) as error:
        plugins.find_preset("brigth")
    assert "bright" in error.value.hint
    assert site.imported == []


def test_a_name_that_nothing_has(site):
    install(site)
    with pytest.raises(UserError) as error:
        plugins.find("model", "sprak")
    assert "spark" in error.value.hint
