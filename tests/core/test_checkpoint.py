"""Nothing in a checkpoint is executed, whoever wrote it."""

import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.checkpoint import build_model, file_hash, load_model, read_checkpoint, save_weights, step_of
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.checksums import write_tensors
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.vae import VAE

LAST = Path("checkpoints") / "last.ckpt"


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("marker", "w")


@pytest.fixture
def checkpoint(trained):
    return torch.load(trained / LAST, weights_only=True)


def hide(checkpoint, where):
    """Put the payload somewhere into a checkpoint."""
    target = checkpoint if where == "top" else checkpoint[where]
    target["payload"] = Payload()


PLACES = ["top", "state_dict", RECORD_KEY, "loops", "callbacks"]
COMMANDS = {
    "fit": ["fit", "--config", "tiny.yaml", "--resume", "bad.ckpt"],
    "fit without config": ["fit", "--resume", "bad.ckpt", "--model", "dcgan", "--data", "digits"],
    "validate": ["validate", "--config", "tiny.yaml", "--checkpoint", "bad.ckpt"],
    "test": ["test", "--config", "tiny.yaml", "--checkpoint", "bad.ckpt"],
    "predict": ["predict", "--config", "tiny.yaml", "--checkpoint", "bad.ckpt"],
    "sample": ["sample", "bad.ckpt"],
    "export": ["export", "bad.ckpt"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_what_is_hidden_in_a_checkpoint(command, aigc, tiny, folder, checkpoint):
    for place in PLACES:
        hidden = {key: dict(value) if isinstance(value, dict) else value for key, value in checkpoint.items()}
        hide(hidden, place)
        torch.save(hidden, "bad.ckpt")
        done = aigc(*COMMANDS[command])
        assert done.code == 2 and "bad.ckpt" in done.err and len(done.lines) <= 4, place
        assert not (folder / "marker").exists(), place
    torch.load("bad.ckpt", weights_only=False)
    assert (folder / "marker").exists()  # the payload works, so the checks above would have noticed


@pytest.mark.parametrize("kind", ["bare pickle", "old format", "inside a zip"])
def test_other_files_that_could_execute_something(kind, folder):
    path = folder / "bad.ckpt"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "old format":
        torch.save({"state_dict": {}, "x": Payload()}, path, _use_new_zipfile_serialization=False)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
            archive.writestr("archive/version", "3")
    for use in (read_checkpoint, load_model):
        with pytest.raises(UserError, match=r"bad\.ckpt"):
            use(path)
    assert step_of(path) == -1
    assert not (folder / "marker").exists()


def test_a_folder_of_a_run_with_a_payload_is_passed_over(aigc, tiny, folder, checkpoint):
    aigc("fit", "--config", tiny, "--run", "r")
    checkpoint["payload"] = Payload()
    torch.save(checkpoint, folder / "r" / LAST)
    done = aigc("fit", "--resume", "r")
    assert done.code == 2 and not (folder / "marker").exists()


def test_a_class_that_a_checkpoint_names_is_not_imported(aigc, tiny, folder, checkpoint, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "evil_module.py").write_text("open('marker', 'w').close()\nclass Model: pass\n")
    checkpoint[RECORD_KEY]["class_path"] = "evil_module.Model"
    checkpoint["hyper_parameters"] = {
        "_class_path": "evil_module.Model",
        "_instantiator": "evil_module.Model",
        "width": 3,
    }
    checkpoint["hparams_name"] = "kwargs"
    torch.save(checkpoint, "bad.ckpt")
    for argv in COMMANDS.values():
        done = aigc(*argv)
        assert done.code == 2 and "evil_module" in done.err, argv
    assert "evil_module" not in sys.modules and not (folder / "marker").exists()


def test_hyperparameters_of_a_checkpoint_change_no_option(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "r")
    path = folder / "r" / LAST
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] = {"width": 99, "_instantiator": "os.system", "generator_lr": 0.5}
    torch.save(checkpoint, path)
    assert aigc("fit", "--config", tiny, "--resume", "r", "--trainer.max_steps", 4).code == 0
    again = torch.load(path, weights_only=True)
    assert again[RECORD_KEY]["config"]["width"] == 8
    assert again["optimizer_states"][1]["param_groups"][0]["lr"] == 2e-4


def test_a_checkpoint_holds_tensors_and_plain_values_alone(checkpoint):
    def kinds(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from kinds(key)
                yield from kinds(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from kinds(item)
        else:
            yield type(value)

    assert set(kinds(checkpoint)) <= {str, int, float, bool, type(None), torch.Tensor}


def test_a_checkpoint_says_what_made_it(checkpoint):
    record = checkpoint[RECORD_KEY]
    assert record["class_path"] == "aigc_lightning.models.dcgan.DCGAN"
    assert record["config"]["latent_size"] == 4 and "spec" not in record["config"]
    assert (
        record["spec"]["channels"] == 1 and record["spec"]["height"] == 8 and len(record["spec"]["class_names"]) == 10
    )
    assert record["data"]["class_path"] == "aigc_lightning.data.sets.digits.Digits"
    assert record["data"]["config"]["batch_size"] == 300
    assert record["seed"] == 0 and record["ema"]["decay"] == 0.999
    assert {"aigc_lightning", "torch"} <= record["versions"].keys()


def test_a_loaded_model_is_the_trained_one_ready_for_use(trained, checkpoint):
    for source in (trained, trained / LAST):
        model = load_model(source)
        assert isinstance(model, DCGAN) and not model.training and model.spec.shape == (1, 8, 8)
        state = model.state_dict()
        assert state.keys() == checkpoint["state_dict"].keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in checkpoint["state_dict"].items())
        assert "averages.generator.layers.0.weight" in state


def test_weights_that_do_not_fit(checkpoint, folder):
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt do not fit DCGAN"):
        load_model("a.ckpt")


def test_arguments_that_the_class_does_not_take(checkpoint):
    record = checkpoint[RECORD_KEY]
    for config in ({"no_such": 3}, {"width": "wide"}, {"width": None}):
        with pytest.raises(UserError):
            build_model({**record, "config": config}, Path("a.ckpt"))
    with pytest.raises(UserError, match="0 channels"):
        build_model({**record, "spec": {**record["spec"], "channels": 0}}, Path("a.ckpt"))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(key=st.sampled_from(["class_path", "config", "spec", "versions", "engine", "format", None]), value=PLAIN)
def test_any_record_is_a_model_or_a_users_mistake(key, value, trained, tmp_path):
    checkpoint = torch.load(trained / LAST, weights_only=True)
    if key is None:
        checkpoint[RECORD_KEY] = value
    else:
        checkpoint[RECORD_KEY][key] = value
    torch.save(checkpoint, tmp_path / "a.ckpt")
    try:
        load_model(tmp_path / "a.ckpt")
    except UserError as error:
        assert len(str(error).splitlines()) <= 4


def places(data, number):
    """Return places all over a file: many at its ends, where names and directories are."""
    spread = [len(data) * part // number for part in range(number)]
    return [*range(0, 120, 11), *spread, *range(len(data) - 900, len(data), 37)]


def same_weights(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_a_flipped_bit_is_named_or_changes_nothing(kind, trained, tmp_path):
    path, whole = tmp_path / ("a.ckpt" if kind == "checkpoint" else "a.safetensors"), load_model(trained)
    if kind == "checkpoint":
        path.write_bytes((trained / LAST).read_bytes())
    else:
        save_weights(whole, path, {})
    data, named, tried = path.read_bytes(), 0, 0
    for number, place in enumerate(places(data, 40)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << number % 8
        path.write_bytes(flipped)
        tried += 1
        try:
            model = load_model(path)
        except UserError as error:
            assert str(path) in str(error)
            named += 1
        else:
            assert same_weights(model, whole) and model.provenance() == whole.provenance(), place
    assert named > tried // 2


def test_an_export_of_version_0_1_is_read_with_a_word(trained, tmp_path, caplog):
    from safetensors.torch import save_file

    model = load_model(trained)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, tmp_path / "a.safetensors", {RECORD_KEY: json.dumps(model.provenance())})
    assert same_weights(load_model(tmp_path / "a.safetensors"), model)
    assert "a.safetensors has no checksum" in caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": ' + '{"a": ' * 500 + "1" + "}" * 501, "3", "null", "{"])
def test_records_of_exports_that_are_none(text, tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)}, {RECORD_KEY: text})
    with pytest.raises(UserError, match=r"a\.safetensors"):
        load_model(tmp_path / "a.safetensors")


def test_a_deeply_nested_checkpoint_is_a_users_mistake(aigc, checkpoint, folder):
    nested: Any = 1
    for _ in range(100):
        nested = {"a": nested}
    for where in (checkpoint, checkpoint[RECORD_KEY]["config"]):
        where["deep"] = nested
        torch.save(checkpoint, "a.ckpt")
        for argv in (["sample", "a.ckpt"], ["fit", "--resume", "a.ckpt", "--model", "dcgan", "--data", "digits"]):
            done = aigc(*argv)
            assert done.code == 2 and "nested more than 64" in done.err and len(done.lines) <= 4
        del where["deep"]


def test_weights_that_diverged_make_no_pictures(aigc, trained, checkpoint, folder):
    name = "averages.generator.layers.0.weight"
    checkpoint["state_dict"][name].fill_(torch.nan)
    torch.save(checkpoint, "a.ckpt")
    own = ["--config", trained / "config.yaml", "--trainer.max_steps", 50]
    stages = [["validate", *own, "--checkpoint", "a.ckpt"], ["fit", *own, "--resume", "a.ckpt", "--run", "r"]]
    for argv in (["sample", "a.ckpt"], ["export", "a.ckpt"], *stages):
        done = aigc(*argv)
        assert done.code == 2 and f"numbers of {name} in a.ckpt are not finite" in done.err, argv
    assert not (folder / "samples").exists()


class Sub(DCGAN):
    """A model that no package has registered."""


def test_lightnings_way_loads_what_the_record_says(trained, checkpoint):
    for source in (trained, trained / LAST, str(trained / LAST)):
        model = DCGAN.load_from_checkpoint(source)
        assert type(model) is DCGAN and model.training and model.provenance()["config"]["width"] == 8
        assert same_weights(model, load_model(trained))
    assert isinstance(AdversarialModel.load_from_checkpoint(trained), DCGAN)
    assert isinstance(ImageModel.load_from_checkpoint(trained, map_location="cpu"), DCGAN)


def test_lightnings_way_takes_overrides(trained):
    model = DCGAN.load_from_checkpoint(trained, generator_lr=0.5)
    assert model.configure_optimizers()[1].param_groups[0]["lr"] == 0.5
    with pytest.raises(UserError, match="do not fit DCGAN"):
        DCGAN.load_from_checkpoint(trained, width=16)
    with pytest.raises(UserError, match="no_such"):
        DCGAN.load_from_checkpoint(trained, no_such=1)
    for refused in ({"weights_only": False}, {"hparams_file": "x.yaml"}):
        with pytest.raises(UserError, match=next(iter(refused))):
            DCGAN.load_from_checkpoint(trained, **refused)


def test_lightnings_way_refuses_another_class(trained, checkpoint, tmp_path):
    for other in (VAE, Sub):
        with pytest.raises(UserError, match=rf"holds a .*DCGAN, which is not a {other.__name__}\."):
            other.load_from_checkpoint(trained)
    checkpoint[RECORD_KEY]["class_path"] = f"{Sub.__module__}.Sub"
    torch.save(checkpoint, tmp_path / "sub.ckpt")
    assert type(Sub.load_from_checkpoint(tmp_path / "sub.ckpt")) is Sub
    with pytest.raises(UserError, match="no installed package provides"):
        DCGAN.load_from_checkpoint(tmp_path / "sub.ckpt")


def test_lightnings_way_may_leave_weights_out(checkpoint, tmp_path):
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="do not fit"):
        DCGAN.load_from_checkpoint(tmp_path / "a.ckpt")
    DCGAN.load_from_checkpoint(tmp_path / "a.ckpt", strict=False)


def test_lightnings_way_executes_nothing(checkpoint, folder):
    hide(checkpoint, "top")
    torch.save(checkpoint, "bad.ckpt")
    with pytest.raises(UserError, match=r"bad\.ckpt holds objects that could run code: io\.open\.") as refusal:
        DCGAN.load_from_checkpoint("bad.ckpt")
    assert "weights_only" not in str(refusal.value)  # torch's advice to load it all the same
    assert not (folder / "marker").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20))
def test_any_damage_is_noticed_or_harmless(cut, flips, trained, tmp_path):
    data = bytearray((trained / LAST).read_bytes())
    for place, value in flips:
        data[min(int(place * len(data)), len(data) - 1)] = value
    (tmp_path / "a.ckpt").write_bytes(data[: int(cut * len(data))] if not flips else data)
    try:
        load_model(tmp_path / "a.ckpt")
    except UserError as error:
        assert "a.ckpt" in str(error)


def test_step_of_a_checkpoint(trained, tmp_path):
    assert step_of(trained / LAST) == 40
    assert step_of(tmp_path / "none.ckpt") == -1
    (tmp_path / "a.ckpt").write_bytes(b"no")
    assert step_of(tmp_path / "a.ckpt") == -1


def test_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == "ba7816bf8f01cfea"  # SHA-256 of "abc" (FIPS 180-2, appendix B.1)


def test_an_export_replaces_the_old_file_or_leaves_it(trained, tmp_path, monkeypatch):
    model = load_model(trained)
    path = tmp_path / "a.safetensors"
    save_weights(model, path, {"note": "é"})
    old = path.read_bytes()
    monkeypatch.setattr("aigc_lightning.core.io.checksums.save_file", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(model, path, {})
    assert path.read_bytes() == old and [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_damaged_best_checkpoint_is_not_recommended(tmp_path):
    for name, other in {"best": "last", "last": "best"}.items():
        (tmp_path / f"{name}.ckpt").write_bytes(b"damaged")
        with pytest.raises(UserError, match=rf"such as {other}\.ckpt"):
            read_checkpoint(tmp_path / f"{name}.ckpt")
