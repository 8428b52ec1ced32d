"""Names and configs in every nesting, on the command line and in YAML."""

from typing import Any

import pytest
import yaml

from aigc_lightning import plugins
from aigc_lightning.config.request import check_seed, read_request, value_of
from aigc_lightning.errors import UserError

DCGAN, DIGITS = "aigc_lightning.models.dcgan.DCGAN", "aigc_lightning.data.sets.digits.Digits"


@pytest.fixture
def resolved(aigc):
    """Return the config that a command line comes to."""

    def resolve(*argv):
        done = aigc("fit", *argv, "--print_config")
        assert done.code == 0, done.err
        return yaml.safe_load(done.out)

    return resolve


#: Ways of saying the same thing: command line, files.
WAYS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "names": (["--model", "dcgan", "--data", "digits"], {}),
    "names with =": (["--model=dcgan", "--data=digits"], {}),
    "other spelling": (["--model", "DCGAN", "--data", "Digits"], {}),
    "with the package": (["--model", "aigc-lightning:dcgan", "--data", "aigc_lightning:digits"], {}),
    "class paths": (["--model", DCGAN, "--data", DIGITS], {}),
    "explicit class_path": (["--model.class_path", "dcgan", "--data.class_path", "digits"], {}),
    "mapping on the command line": (["--model", "{class_path: dcgan}", "--data", "{class_path: digits}"], {}),
    "YAML of names": (["--config", "a.yaml"], {"a.yaml": {"model": "dcgan", "data": "digits"}}),
    "YAML of class_path": (
        ["--config", "a.yaml"],
        {"a.yaml": {"model": {"class_path": "dcgan"}, "data": {"class_path": "digits"}}},
    ),
    "YAML of full paths": (
        ["--config", "a.yaml"],
        {"a.yaml": {"model": {"class_path": DCGAN}, "data": {"class_path": DIGITS}}},
    ),
    "YAML with the package": (
        ["--config", "a.yaml"],
        {"a.yaml": {"model": {"class_path": "aigc-lightning:dcgan"}, "data": "digits"}},
    ),
    "files of sections": (
        ["--model", "m.yaml", "--data", "d.yaml"],
        {"m.yaml": {"class_path": "dcgan"}, "d.yaml": {"class_path": DIGITS}},
    ),
    "file named in a config": (
        ["--config", "a.yaml"],
        {"a.yaml": {"model": "m.yaml", "data": "digits"}, "m.yaml": {"class_path": "dcgan"}},
    ),
    "two configs": (
        ["--config", "a.yaml", "-c", "b.yaml"],
        {"a.yaml": {"model": "dcgan"}, "b.yaml": {"data": "digits"}},
    ),
    "config with =": (["--config=a.yaml"], {"a.yaml": {"model": "dcgan", "data": "digits"}}),
    "config and command line": (["-c", "a.yaml", "--data", "digits"], {"a.yaml": {"model": "dcgan"}}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_naming_gives_the_same_config(way, resolved, folder):
    argv, files = WAYS[way]
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    config = resolved(*argv)
    assert config["model"]["class_path"] == DCGAN and config["data"]["class_path"] == DIGITS
    assert config["model"]["init_args"]["latent_size"] == 100 and config["data"]["init_args"]["batch_size"] == 64


#: Ways of giving an option of the model.
OPTIONS = {
    "short": (["--model", "dcgan", "--model.width", "12"], None),
    "nested": (["--model", "dcgan", "--model.init_args.width", "12"], None),
    "short over YAML": (["--config", "a.yaml", "--model.width", "12"], {"model": {"class_path": "dcgan"}}),
    "over a YAML value": (
        ["--config", "a.yaml", "--model.width", "12"],
        {"model": {"class_path": "dcgan", "init_args": {"width": 3, "latent_size": 5}}},
    ),
    "in YAML": (["--config", "a.yaml"], {"model": {"class_path": "dcgan", "init_args": {"width": 12}}}),
    "as a mapping": (["--model", "{class_path: dcgan, init_args: {width: 12}}"], None),
    "before the config": (["--model.width", "12", "--config", "a.yaml"], {"model": {"class_path": "dcgan"}}),
}


@pytest.mark.parametrize("way", OPTIONS)
def test_every_way_of_giving_an_option(way, resolved, folder):
    argv, content = OPTIONS[way]
    if content:
        (folder / "a.yaml").write_text(yaml.safe_dump(content))
    config = resolved(*argv, "--data", "digits")
    assert config["model"]["init_args"]["width"] == 12
    if way == "over a YAML value":
        assert config["model"]["init_args"]["latent_size"] == 5


def test_callbacks_by_name_and_by_lightnings_name(resolved, folder):
    callbacks = [{"class_path": "grids", "init_args": {"num": 3}}, {"class_path": "LearningRateMonitor"}]
    (folder / "a.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    found = resolved("--config", "a.yaml", "--model", "dcgan", "--data", "digits")["trainer"]["callbacks"]
    assert found[0]["class_path"] == "aigc_lightning.callbacks.grids.Grids" and found[0]["init_args"]["num"] == 3
    assert found[1]["class_path"].endswith(".LearningRateMonitor")


def test_later_configs_and_the_command_line_win(resolved, tiny, write):
    write("second.yaml", {"trainer": {"max_steps": 9}, "model": {"init_args": {"width": 16}}})
    assert resolved("--config", tiny, "--config", "second.yaml")["trainer"]["max_steps"] == 9
    config = resolved("--config", tiny, "--config", "second.yaml", "--trainer.max_steps", 11)
    assert config["trainer"]["max_steps"] == 11
    assert config["model"]["init_args"]["width"] == 16 and config["model"]["init_args"]["latent_size"] == 4


@pytest.mark.parametrize("name", ["dcgan_digits", "dcgan-digits", "aigc-lightning:dcgan_digits"])
def test_presets_by_name_from_any_folder(name, resolved):
    config = resolved("--config", name)
    preset = yaml.safe_load(plugins.find_preset("dcgan_digits").read_text())
    assert config["model"]["class_path"] == DCGAN
    assert config["trainer"]["max_steps"] == preset["trainer"]["max_steps"]
    assert config["model"]["init_args"]["width"] == preset["model"]["init_args"]["width"]


def test_a_printed_config_can_be_fed_back(aigc, resolved, tiny, folder):
    first = aigc("fit", "--config", tiny, "--print_config").out
    (folder / "printed.yaml").write_text(first)
    assert aigc("fit", "--config", "printed.yaml", "--print_config").out == first
    done = aigc("fit", "--config", "printed.yaml")
    assert done.code == 0 and "runs/printed/1" in done.out


def test_printing_a_config_runs_nothing_and_says_nothing_else(aigc, tiny, folder):
    done = aigc("fit", "--config", tiny, "--print_config")
    assert done.err == "" and isinstance(yaml.safe_load(done.out), dict) and "Starting" not in done.out
    assert not (folder / "runs").exists()


def test_a_run_is_named_after_its_first_config_or_its_parts(folder, tiny, write):
    write("second.yaml")
    read = lambda *argv: read_request("fit", [str(part) for part in argv]).name  # noqa: E731
    assert read("--config", tiny, "--config", "second.yaml") == "tiny"
    assert read("--model", "dcgan", "--data", "aigc_lightning.data.sets.digits.Digits") == "dcgan_digits"
    assert read("--model", "aigc-lightning:dcgan", "--data", "digits") == "dcgan_digits"


def test_resume_without_a_value_means_the_latest(folder, tiny):
    read = lambda *argv: read_request("fit", ["--config", "tiny.yaml", *argv]).argv  # noqa: E731
    assert "--resume=latest" in read("--resume")
    assert "--resume=latest" in read("--resume", "--trainer.max_steps", "3")
    assert read("--resume", "x.ckpt")[-2:] == ["--resume", "x.ckpt"]


def test_the_last_value_of_an_option_counts():
    argv = ["--run", "a", "--run=b", "--other", "c"]
    assert value_of(argv, "--run") == "b" and value_of(argv, "--none") is None


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, True, False, None])
def test_seeds_that_are_taken(seed):
    check_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_that_are_refused(seed):
    with pytest.raises(UserError, match=str(seed)):
        check_seed(seed)


def test_a_config_imports_nothing_that_is_not_allowed(aigc, tiny, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "evil.py").write_text("open('marker', 'w').close()\nclass Model: pass\n")
    done = aigc("fit", "--config", tiny, "--model", "evil.Model")
    assert done.code == 2 and "--trust-config" in done.err
    (folder / "bad.yaml").write_text("model: {class_path: evil.Model}\ndata: digits\n")
    assert aigc("fit", "--config", "bad.yaml").code == 2
    (folder / "bad.yaml").write_text("model: dcgan\ndata: digits\ntrainer: {callbacks: [{class_path: evil.Model}]}\n")
    assert aigc("fit", "--config", "bad.yaml").code == 2
    assert not (folder / "marker").exists()
    aigc("fit", "--config", tiny, "--model", "evil.Model", "--trust-config")
    assert (folder / "marker").exists()  # the check above would have noticed
    assert aigc("fit", "--config", tiny, "--model", "subprocess.Popen").code == 2  # trust ends with its command
