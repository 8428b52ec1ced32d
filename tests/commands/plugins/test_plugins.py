"""`aigc plugins`, and what plugins of all sorts do to every other command. The packages are fakes, not installed."""

import json
import sys
import tomllib

import pytest
import torch
import yaml

from aigc_lightning import __version__, plugins
from aigc_lightning.core.records import RECORD_KEY

SPARK = '''
from aigc_lightning.models.dcgan import DCGAN
class Spark(DCGAN):
    """Sparks of light."""
'''
DOTS = '''
from aigc_lightning.data.sets.digits import Digits
class Dots(Digits):
    """Dots on paper."""
'''
BELL = '''
from lightning.pytorch import Callback
class Bell(Callback):
    """Rings."""
    def __init__(self, times: int = 1) -> None:
        self.times = times
'''
HELLO = '''
def hello(argv: list[str]) -> int:
    """Say hello."""
    print("hello", *argv)
    return 3
'''
BRIGHT = """# Bright sparks.
model:
  class_path: spark
  init_args:
    width: 8
data: digits
"""
PRINT = ("--print_config",)


@pytest.fixture
def spark(site):
    """Install a package with one plugin of each kind."""
    groups = {
        "models": {"spark": "spark.model:Spark"},
        "data": {"dots": "spark.data:Dots"},
        "callbacks": {"bell": "spark.bell:Bell"},
        "commands": {"hello": "spark.hello:hello"},
        "configs": {"spark": "spark.configs"},
    }
    files = {
        "spark/__init__.py": "",
        "spark/model.py": SPARK,
        "spark/data.py": DOTS,
        "spark/bell.py": BELL,
        "spark/hello.py": HELLO,
        "spark/configs/bright.yaml": BRIGHT,
    }
    site.install("aigc-spark", groups, files)
    return site


#: Name to (source or None, what the error says).
BROKEN = {
    "unimportable": ("import nowhere_at_all\n", "nowhere_at_all"),
    "raising": ("raise RuntimeError('no\\nluck')\n", "RuntimeError: no luck"),
    "leaving": ("raise SystemExit(0)\n", "SystemExit"),
    "misspelt": ("Other = 1\n", "Spark"),
    "baseless": ("class Spark:\n    pass\n", "not a subclass of aigc_lightning.ImageModel"),
    "gone": (None, "its files are gone"),
}


@pytest.fixture
def broken(site):
    """Install packages that cannot be used, each with a model and a command."""
    for name, (source, _) in BROKEN.items():
        points = {"models": {name: f"{name}_x:Spark"}, "commands": {f"run-{name}": f"{name}_x:Spark.run"}}
        site.install(f"aigc-{name}", points, {} if source is None else {f"{name}_x.py": source})
    return site


def printed(outcome):
    """Return the config that --print_config showed."""
    assert outcome.code == 0, outcome.err
    return yaml.safe_load(outcome.out)


def refused(outcome, *said):
    """Check that an error is short and says all these."""
    assert outcome.code == 2 and outcome.out == ""
    assert 1 <= len(outcome.lines) <= 4, outcome.err
    for text in said:
        assert text in outcome.err


def checkpoint_of(class_path, name="bad.ckpt"):
    """Write a checkpoint of no weights that names a class."""
    record = {"class_path": class_path, "config": {}, "versions": {}}
    record["spec"] = {"channels": 1, "height": 8, "width": 8, "class_names": []}
    torch.save({"state_dict": {}, "global_step": 0, RECORD_KEY: record}, name)
    return name


# ---- listings


LISTINGS = [["plugins", "list"], ["plugins", "list", "--json"], ["plugins", "list", "model"], ["plugins", "--help"],
            ["models"], ["data"], ["configs"], ["--help"], ["fit", "--help"]]  # fmt: skip


def test_listings_import_no_plugin_and_no_torch(spark, broken, aigc_process):
    code = f"""
import sys
from aigc_lightning.cli import main
for argv in {LISTINGS!r}:
    assert main(argv) == 0, argv
print("HEAVY", sorted({{name.split(".")[0] for name in sys.modules}} & {{"torch", "lightning", "numpy", "spark"}}))
"""
    done = aigc_process(sys.executable, "-c", code)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "HEAVY []"
    for word in ("spark", "dots", "bell", "hello", "bright"):
        assert word in done.out
    assert spark.imported == []


def test_the_list_as_json_and_as_a_table(spark, broken, aigc):
    rows = json.loads(aigc("plugins", "list", "--json").out)
    assert all(row.keys() >= {"name", "kind", "package", "api", "status", "summary"} for row in rows)
    found = {(row["kind"], row["name"]): row for row in rows}
    assert found["model", "dcgan"]["package"] == f"aigc-lightning {__version__}"
    model = found["model", "spark"]
    assert (model["package"], model["api"], model["status"]) == ("aigc-spark 1.0", "1", "ok")
    assert model["summary"] == "Sparks of light."
    assert found["config", "spark"]["summary"] == "Presets: bright"
    assert found["command", "hello"]["summary"] == "Say hello."
    assert found["callback", "bell"]["status"] == found["data", "dots"]["status"] == "ok"
    assert found["model", "gone"]["status"] == "broken" and "files are gone" in found["model", "gone"]["problem"]
    lines = aigc("plugins", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "PACKAGE", "API", "STATUS", "SUMMARY"]
    assert len(lines) == len(rows) + 1
    assert any(line.split()[0] == "gone" and "files are gone" in line for line in lines)
    only = json.loads(aigc("plugins", "list", "data", "--json").out)
    assert {row["kind"] for row in only} == {"data"}


def test_a_name_in_the_variable_that_no_package_has_is_noted(spark, aigc, monkeypatch):
    monkeypatch.setenv("AIGC_PLUGINS", "-aigc-sprak")
    done = aigc("plugins", "list", "--json")
    assert done.code == 0 and "aigc-sprak" in done.err
    json.loads(done.out)


# ---- names


@pytest.mark.parametrize("name", ["spark", "SPARK", "aigc-spark:spark", "AIGC_Spark:Spark", "spark.model.Spark"])
def test_a_model_by_any_of_its_names_is_saved_by_its_class_path(name, spark, aigc):
    config = printed(aigc("fit", "--model", name, "--model.width", 8, "--data", "dots", *PRINT))
    assert config["model"]["class_path"] == "spark.model.Spark" and config["model"]["init_args"]["width"] == 8
    assert config["data"]["class_path"] == "spark.data.Dots"
    assert "spark/bell.py" not in spark.imported and "spark/hello.py" not in spark.imported


def test_a_preset_by_name(spark, aigc):
    for name in ("bright", "Bright", "aigc-spark:bright"):
        config = printed(aigc("fit", "--config", name, *PRINT))
        assert config["model"]["class_path"] == "spark.model.Spark" and config["model"]["init_args"]["width"] == 8
    assert "Bright sparks." in aigc("configs").out


def test_a_callback_by_name(spark, aigc, write):
    write("c.yaml", {"trainer": {"callbacks": [{"class_path": "bell", "init_args": {"times": 2}}]}})
    (callback,) = printed(aigc("fit", "--config", "c.yaml", *PRINT))["trainer"]["callbacks"]
    assert callback == {"class_path": "spark.bell.Bell", "init_args": {"times": 2}}


def test_built_ins_keep_their_names_and_clashes_must_be_written_out(site, aigc):
    for owner in ("one", "two"):
        points = {"models": {"dcgan": f"{owner}_x:Spark", "spark": f"{owner}_x:Spark"}}
        points["commands"] = {"models": f"{owner}_x:Spark", "shout": f"{owner}_x:Spark"}
        site.install(f"aigc-{owner}", points, {f"{owner}_x.py": SPARK})
    config = printed(aigc("fit", "--model", "dcgan", "--data", "digits", *PRINT))
    assert config["model"]["class_path"] == "aigc_lightning.models.dcgan.DCGAN"
    assert aigc("models").code == 0
    refused(aigc("fit", "--model", "spark", "--data", "digits", *PRINT), "aigc-one:spark", "aigc-two:spark")
    refused(aigc("plugins", "show", "spark"), "aigc-one:spark", "aigc-two:spark")
    refused(aigc("shout"), "aigc-one:shout", "aigc-two:shout")
    for line in ("aigc-one:shout", "aigc-two:shout", "aigc-one:models"):
        assert any(row.split()[:1] == [line] for row in aigc("--help").out.splitlines())
    assert site.imported == []
    config = printed(aigc("fit", "--model", "aigc-two:spark", "--data", "digits", *PRINT))
    assert config["model"]["class_path"] == "two_x.Spark"
    assert printed(aigc("fit", "--model", "aigc-two:dcgan", "--data", "digits", *PRINT))["model"] == config["model"]
    assert site.imported == ["two_x.py"]
    # What was saved before the clash, or after, goes on working.
    site.folder.joinpath("saved.yaml").write_text(yaml.safe_dump(config))
    again = printed(aigc("fit", "--config", site.folder / "saved.yaml", *PRINT))
    assert again["model"]["class_path"] == "two_x.Spark"
    rows = {row["name"]: row for row in json.loads(aigc("plugins", "list", "model", "--json").out)}
    assert rows["dcgan"]["status"] == "ok"
    assert rows["aigc-one:spark"]["status"] == rows["aigc-one:dcgan"]["status"] == "clash"


def test_a_misspelt_option_imports_no_plugin(spark, aigc):
    refused(aigc("fit", "--model", "dcgan", "--data", "digits", "--model.widht", 3), "model.width")
    refused(aigc("fit", "--model", "sprak", "--data", "digits"), "spark")
    assert spark.imported == []


# ---- broken plugins


def test_everything_else_works_beside_broken_plugins(broken, spark, aigc):
    models = aigc("models")
    assert models.code == 0 and "dcgan" in models.out and "Sparks of light." in models.out
    shown = aigc("--help")
    assert shown.code == 0 and shown.err == ""
    line = next(line for line in shown.out.splitlines() if line.split()[:1] == ["run-gone"])
    assert "aigc-gone cannot be used" in line and "files are gone" in line
    printed(aigc("fit", "--model", "dcgan", "--data", "digits", *PRINT))
    printed(aigc("fit", "--model", "spark", "--data", "digits", *PRINT))
    assert aigc("fit", "--model.help", "dcgan").code == 0
    assert not any(name.endswith("_x.py") for name in broken.imported)


@pytest.mark.parametrize("name", BROKEN)
def test_using_a_broken_plugin_says_the_cause_shortly(name, broken, aigc, write):
    said = BROKEN[name][1]
    refused(aigc("fit", "--model", name, "--data", "digits"), said, f"aigc-{name} 1.0")
    refused(aigc("fit", "--model", f"aigc-{name}:{name}", "--data", "digits", *PRINT), said)
    refused(aigc("fit", "--config", write("c.yaml", {"model": {"class_path": name}})), said)
    refused(aigc("fit", "--config", write("d.yaml", {"model": {"class_path": f"{name}_x.Spark"}})), said)
    refused(aigc("sample", checkpoint_of(f"{name}_x.Spark")), said)
    command = aigc(f"run-{name}")
    refused(command, f"aigc-{name} 1.0")
    shown = aigc("plugins", "show", name)
    assert shown.code == 0 and "broken" in shown.out and said in shown.out


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_shows_the_whole_error(name, broken, aigc):
    for target in (name, f"aigc-{name}:{name}", f"{name}_x.Spark", f"aigc-{name}"):
        done = aigc("plugins", "check", target)
        assert done.code == 1 and "FAILED" in done.out and BROKEN[name][1].split(":")[0] in done.out
        if name in ("unimportable", "raising", "misspelt"):
            assert "Traceback" in done.out
        if name in ("unimportable", "raising"):
            assert f"{name}_x.py" in done.out


# ---- versions


@pytest.mark.parametrize("reason", ["aigc_api", "Requires-Dist"])
def test_a_plugin_for_another_version_is_refused_before_its_import(reason, site, aigc, write):
    source = f"{SPARK}    aigc_api = 99\n" if reason == "aigc_api" else SPARK
    needs = ["aigc-lightning>=99"] if reason == "Requires-Dist" else []
    points = {"models": {"spark": "new_x:Spark"}}
    if needs:
        points["commands"] = {"hello": "new_x:hello"}
    site.install("aigc-new", points, {"new_x.py": source + HELLO}, requires=needs)
    versions = ("99", __version__)
    refused(aigc("fit", "--model", "spark", "--data", "digits"), *versions)
    refused(aigc("fit", "--config", write("c.yaml", {"model": {"class_path": "new_x.Spark"}})), *versions)
    refused(aigc("fit", "--config", "c.yaml", "--trust-config"), *versions)
    refused(aigc("sample", checkpoint_of("new_x.Spark")), *versions)
    row = next(row for row in json.loads(aigc("models", "--json").out) if row["name"] == "spark")
    assert "99" in row["summary"]
    rows = json.loads(aigc("plugins", "list", "--json").out)
    assert next(row for row in rows if row["name"] == "spark")["status"] == "refused"
    assert "refused" in aigc("plugins", "show", "spark").out
    assert aigc("plugins", "check", "spark").code == 1
    if needs:
        refused(aigc("hello"), *versions)
        assert "aigc-lightning>=99" in aigc("--help").out
    assert site.imported == []


# ---- safety


@pytest.mark.parametrize("setting", ["-aigc-spark", "another", "-AIGC_Spark"])
def test_a_denied_plugin_leaves_no_trace(setting, spark, aigc, write, monkeypatch):
    monkeypatch.setenv("AIGC_PLUGINS", setting)
    for argv in LISTINGS:
        done = aigc(*argv)
        assert done.code == 0 and "spark" not in done.out and "hello" not in done.out
    refused(aigc("fit", "--model", "spark", "--data", "digits"), "AIGC_PLUGINS")
    refused(aigc("fit", "--model", "aigc-spark:spark", "--data", "digits"), "AIGC_PLUGINS")
    refused(aigc("fit", "--model", "spark.model.Spark", "--data", "digits"), "spark.model.Spark")
    refused(aigc("fit", "--model.help", "spark"), "AIGC_PLUGINS")
    refused(aigc("fit", "--config", "bright"), "bright")
    write("model.yaml", {"model": {"class_path": "spark.model.Spark"}})
    write("data.yaml", {"data": {"class_path": "spark.data.Dots"}})
    write("callback.yaml", {"trainer": {"callbacks": [{"class_path": "spark.bell.Bell"}]}})
    write("named.yaml", {"trainer": {"callbacks": [{"class_path": "bell"}]}})
    for name in ("model", "data", "callback", "named"):
        refused(aigc("fit", "--config", f"{name}.yaml"))
        refused(aigc("fit", "--config", f"{name}.yaml", "--trust-config"))
    checkpoint_of("spark.model.Spark")
    refused(aigc("sample", "bad.ckpt"), "spark.model.Spark")
    refused(aigc("export", "bad.ckpt"), "spark.model.Spark")
    write("tiny.yaml")
    refused(aigc("validate", "--config", "tiny.yaml", "--checkpoint", "bad.ckpt"))
    refused(aigc("fit", "--config", "tiny.yaml", "--resume", "bad.ckpt"))
    refused(aigc("hello"), "AIGC_PLUGINS")
    refused(aigc("plugins", "show", "spark"), "AIGC_PLUGINS")
    refused(aigc("plugins", "check", "aigc-spark"))
    printed(aigc("fit", "--model", "dcgan", "--data", "digits", *PRINT))
    assert spark.imported == []


def test_an_allowed_plugin_is_there(spark, broken, aigc, monkeypatch):
    monkeypatch.setenv("AIGC_PLUGINS", "aigc_spark")
    assert "gone" not in aigc("models").out
    printed(aigc("fit", "--config", "bright", *PRINT))
    assert "spark/model.py" in spark.imported


@pytest.mark.slow
def test_the_variable_holds_in_a_process_of_its_own(spark, aigc_process, write, monkeypatch):
    monkeypatch.setenv("AIGC_PLUGINS", "-aigc-spark")
    write("c.yaml", {"model": {"class_path": "spark.model.Spark"}})
    done = aigc_process(sys.executable, "-m", "aigc_lightning", "fit", "--config", "c.yaml")
    assert done.code == 2 and len(done.lines) <= 4 and "spark.model.Spark" in done.err
    assert spark.imported == []


def test_a_config_imports_from_known_packages_alone(site, aigc, write):
    site.folder.joinpath("stray.py").write_text(site._MARK + SPARK)
    write("stray.yaml", {"model": {"class_path": "stray.Spark"}})
    write("system.yaml", {"model": {"class_path": "os.system", "init_args": {"command": "touch touched"}}})
    write("callback.yaml", {"trainer": {"callbacks": [{"class_path": "stray.Spark"}]}})
    for name, path in (("stray", "stray.Spark"), ("system", "os.system"), ("callback", "stray.Spark")):
        refused(aigc("fit", "--config", f"{name}.yaml"), path, "--trust-config")
    assert site.imported == []
    config = printed(aigc("fit", "--config", "stray.yaml", "--trust-config", *PRINT))
    assert config["model"]["class_path"] == "stray.Spark" and site.imported == ["stray.py"]
    refused(aigc("fit", "--config", "system.yaml", "--trust-config"), "not a model of aigc_lightning")
    assert not site.folder.parent.joinpath("touched").exists()
    # What one config was trusted with is closed to the next.
    refused(aigc("fit", "--config", "stray.yaml"), "--trust-config")


def test_a_plugin_opens_what_it_registers_alone(site, aigc, write):
    """Neither the rest of its package nor another package in its namespace."""
    files = {"shared/one/__init__.py": "", "shared/one/model.py": SPARK, "shared/one/more.py": SPARK}
    site.install("aigc-one", {"models": {"spark": "shared.one.model:Spark"}}, files)
    site.folder.joinpath("shared/two").mkdir()
    site.folder.joinpath("shared/two/__init__.py").write_text(site._MARK + SPARK)
    write("c.yaml", {"model": {"class_path": "shared.two.Spark"}})
    refused(aigc("fit", "--config", "c.yaml"), "--trust-config")
    refused(aigc("fit", "--model", "shared.one.more.Spark", "--data", "digits"), "--trust-config")
    assert site.imported == []
    config = printed(aigc("fit", "--model", "shared.one.model.Spark", "--data", "digits", *PRINT))
    assert config["model"]["class_path"] == "shared.one.model.Spark"
    config = printed(aigc("fit", "--model", "shared.one.more.Spark", "--data", "digits", "--trust-config", *PRINT))
    assert config["model"]["class_path"] == "shared.one.more.Spark"


# ---- commands


def test_a_command_of_a_plugin(spark, aigc):
    assert any(line.split() == ["hello", "Say", "hello."] for line in aigc("--help").out.splitlines())
    assert spark.imported == []
    for name in ("hello", "HELLO", "aigc-spark:hello"):
        done = aigc(name, "you", "--there")
        assert (done.code, done.out) == (3, "hello you --there\n")


# ---- show


def test_the_page_of_a_model(aigc):
    lines = aigc("plugins", "show", "dcgan").out.splitlines()
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if len(line.split()) > 1}
    assert facts["kind"] == "model" and facts["status"] == "ok" and facts["API"] == "1"
    assert facts["package"] == f"aigc-lightning {__version__}"
    assert facts["class"] == "aigc_lightning.models.dcgan.DCGAN"
    assert "Radford" in facts["paper"] and facts["source"].endswith("dcgan.py")
    assert facts["capabilities"] != "none" and facts["channels"]
    assert facts["--model.latent_size"] == "(int, default 100)"
    assert facts["--model.gradient_penalty_weight"] == "(float | None, default None)"
    assert "Literal" in facts["--model.discriminator_norm"] or "Norm" in facts["--model.discriminator_norm"]
    assert any(line.split()[:1] == ["dcgan_digits"] for line in lines[lines.index("Presets") :])
    assert not any("--model.spec" in line for line in lines)


def test_the_pages_of_other_kinds(spark, aigc):
    assert "--data.batch_size" in aigc("plugins", "show", "digits").out
    page = aigc("plugins", "show", "bell").out
    assert "Rings." in page and "times" in page and "(int, default 1)" in page
    assert "aigc hello --help" in aigc("plugins", "show", "hello").out
    page = aigc("plugins", "show", "spark").out  # the model rather than the presets
    assert page == aigc("plugins", "show", "spark", "--kind", "model").out
    assert "Sparks of light." in page and "--model.width" in page and "bright" in page
    assert "Bright sparks." in aigc("plugins", "show", "spark", "--kind", "config").out
    assert "Sparks of light." in aigc("plugins", "show", "spark.model.Spark").out


@pytest.mark.parametrize(
    "argv",
    [
        ["lst"],
        ["show"],
        ["show", "dcgna"],
        ["show", "dcgan", "--kind", "data"],
        ["check", "nobody"],
        ["check", "dcgan", "--set", "model.width"],
        ["list", "modls"],
        ["new"],
        ["new", "glow", "--kind", "video"],
    ],
)
def test_mistakes(argv, aigc):
    refused(aigc("plugins", *argv))


# ---- new


@pytest.mark.parametrize("kind", ["model", "edit", "diffusion", "data"])
def test_a_new_package_has_everything(kind, folder, aigc):
    done = aigc("plugins", "new", "glow-worm", "--kind", kind, "--out", "here")
    assert done.code == 0 and "aigc fit --config" in done.out
    package = folder / "here" / "aigc-glow-worm"
    files = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", ".github/workflows/ci.yml", "tests/test_glow_worm.py"} <= files.keys()
    assert any(name.startswith("src/aigc_glow_worm/configs/") for name in files)
    assert not any("@" in name or name.endswith(".tmpl") for name in files)
    assert not any(f"@{word}@" in text for text in files.values() for word in ("STEM", "CLASS", "MODULE", "PACKAGE"))
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "aigc-glow-worm"
    (value,) = project["entry-points"]["aigc_lightning.data" if kind == "data" else "aigc_lightning.models"].values()
    assert value.startswith("aigc_glow_worm.") and value.endswith(":GlowWorm")
    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
    preset = next(name for name in files if name.endswith(".yaml"))
    assert preset.rpartition("/")[2].removesuffix(".yaml") in done.out


def test_a_new_package_overwrites_nothing(folder, aigc):
    assert aigc("plugins", "new", "glow").code == 0
    readme = folder / "aigc-glow" / "README.md"
    readme.write_text("mine")
    refused(aigc("plugins", "new", "glow"), "aigc-glow")
    refused(aigc("plugins", "new", "glow", "--kind", "data"), "aigc-glow")
    assert readme.read_text() == "mine"
    (folder / "file").write_text("")
    refused(aigc("plugins", "new", "gleam", "--out", "file"))


@pytest.mark.parametrize(
    "name",
    ["", "Glow", "9lives", "../glow", "/glow", "a b", "glow_", "-glow", "glow--worm", "é", "class", "none", "true",
     "aigc-", "a" * 41, "dcgan", "DCGAN", "aigc-dcgan", "lightning", "aigc-lightning", "false"],
)  # fmt: skip
def test_names_that_are_no_good(name, folder, aigc):
    before = set(folder.iterdir())
    refused(aigc("plugins", "new", "--", name))
    assert set(folder.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "edit", "diffusion", "data"])
def test_the_tests_of_a_new_package_pass(kind, site, folder, aigc, aigc_process):
    assert aigc("plugins", "new", "glow", "--kind", kind).code == 0
    package = folder / "aigc-glow"
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    points = {group.removeprefix("aigc_lightning."): names for group, names in project["entry-points"].items()}
    source = package / "src"
    files = {str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()}
    site.install(
        project["name"], points, files, version=project["version"], requires=project["dependencies"], marked=False
    )
    assert plugins.find("data" if kind == "data" else "model", "glow").problem() == ""
    done = aigc_process(sys.executable, "-m", "pytest", "-q", "-c", package / "pyproject.toml", package, timeout=280)
    assert done.code == 0, done.out + done.err
    assert " passed" in done.out and "failed" not in done.out


def test_a_name_of_several_kinds_needs_its_kind(site, aigc):
    points = {"models": {"spark": "both_x:Spark"}, "data": {"spark": "both_x:Dots"}}
    site.install("aigc-both", points, {"both_x.py": SPARK + DOTS})
    refused(aigc("plugins", "show", "spark"), "--kind model", "--kind data")
    assert "Dots on paper." in aigc("plugins", "show", "spark", "--kind", "data").out
