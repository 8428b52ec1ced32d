"""Nothing in a checkpoint is executed, whoever wrote it."""

import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigc_lightning.core.checkpoint import build_model, file_hash, load_model, read_checkpoint, save_weights, step_of
from aigc_lightning.core.image_model import RECORD_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN

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
    assert record["data"]["class_path"] == "aigc_lightning.data.digits.Digits"
    assert record["data"]["config"]["batch_size"] == 300
    assert record["seed"] == 0 and record["engine"]["ema_decay"] == 0.999
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
    monkeypatch.setattr("aigc_lightning.core.checkpoint.save_file", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(model, path, {})
    assert path.read_bytes() == old and [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
