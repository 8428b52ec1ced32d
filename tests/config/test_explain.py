"""Whatever stands in a config, the answer is a run or a short message."""

import copy
import string
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigc_lightning.training.cli import TrainingCLI

# Huge numbers are so huge that no machine tries: a number in between would fill the memory.
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 2**63, 10**30, -(10**30), 0.5, -0.5, 1e400, float("nan")])
TEXTS = st.sampled_from(
    ["", " ", "dcgan", "digits", "dcgan:dcgan", ":", "a:b:c", ".", "..", "torch.nn.Linear", "os.system", "null", "[1",
     "{", "{}", "--model", "@file", "é\u202eß", "💥" * 50, "\x1b[31m", "a" * 3000, "/dev/null", "tiny.yaml", "../x",
     "https://x.org/a.yaml", "${oc.env:HOME}", "%s %d {0}", "class_path", "latest", "auto", "cpu", "true", "1e3"]
)  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.text(max_size=8))
KEYS = st.one_of(
    st.sampled_from(
        ["class_path", "init_args", "model", "data", "spec", "width", "", ".", "a.b", "config", "__class__"]
    ),
    st.text(string.ascii_letters + "_.-é ", max_size=6),
    st.integers(-2, 2),
    st.none(),
    st.booleans(),
)
GARBAGE = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "rename", "replace", "wrap", "nest", "copy"]),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        KEYS,
        GARBAGE,
    ),
    min_size=1,
    max_size=3,
)
FUZZ = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def places(config, path=()):
    """Yield every (mapping, key) of a nested config."""
    for key, value in config.items():
        yield config, key
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def mutated(config, mutations):
    config = copy.deepcopy(config)
    for kind, first, second, key, garbage in mutations:
        found = list(places(config))
        if not found:
            break
        (mapping, name), (other, other_name) = found[first % len(found)], found[second % len(found)]
        value = mapping[name]
        if kind == "delete":
            del mapping[name]
        elif kind == "rename":
            mapping[key] = mapping.pop(name)
        elif kind == "replace":
            mapping[name] = garbage
        elif kind == "wrap":
            mapping[name] = [value]
        elif kind == "nest":
            mapping[name] = {key: value}
        else:
            mapping[name] = copy.deepcopy(other[other_name])
    return config


@pytest.fixture
def instantiated(monkeypatch):
    """Stop before training: what the config says has been used by then."""
    done = []
    monkeypatch.setattr(TrainingCLI, "run", lambda self: done.append(self))
    return done


@pytest.fixture
def whole(aigc, tiny, instantiated):
    """Return the tiny config with every default written out."""
    return yaml.safe_load(aigc("fit", "--config", tiny, "--print_config").out)


@FUZZ
@given(mutations=MUTATIONS)
def test_changes_of_a_valid_config(mutations, aigc, tiny_config, folder, instantiated):
    text = yaml.safe_dump(mutated(tiny_config, mutations), allow_unicode=True)
    check(aigc, folder, text)


@FUZZ
@given(mutations=MUTATIONS)
def test_changes_of_a_config_with_every_option(mutations, aigc, folder, instantiated, whole):
    check(aigc, folder, yaml.safe_dump(mutated(whole, mutations), allow_unicode=True))


@FUZZ
@given(config=GARBAGE)
def test_any_value_as_a_config(config, aigc, folder, instantiated):
    check(aigc, folder, yaml.safe_dump(config, allow_unicode=True))


@FUZZ
@given(text=st.text(st.sampled_from(list("ab:-[]{}'\"#&*!|>%@`,?~ \n\t\\0")), max_size=40) | st.text(max_size=30))
def test_any_text_as_a_config(text, aigc, folder, instantiated):
    check(aigc, folder, text)


@FUZZ
@given(data=st.binary(max_size=40))
def test_any_bytes_as_a_config(data, aigc, folder, instantiated):
    check(aigc, folder, data)


#: Values that Lightning, torch or we take or refuse only when training starts. Nothing that would start processes.
RUNNING: dict[str, list[Any]] = {
    "trainer.precision": ["bf16-mixed", "16-mixed", "16-true", "transformer-engine"],
    "trainer.callbacks": [
        [{"class_path": name, "init_args": options}]
        for name, options in {
            "EarlyStopping": {"monitor": "x"}, "ModelCheckpoint": {}, "RichProgressBar": {}, "LearningRateMonitor": {},
            "StochasticWeightAveraging": {"swa_lrs": 0.1}, "GradientAccumulationScheduler": {"scheduling": {1: 2}},
            "grids": {}, "sliced_wasserstein": {}, "BackboneFinetuning": {}, "Timer": {}, "ModelSummary": {},
        }.items()
    ],
    "trainer.fast_dev_run": [True, 2, -1],
    "trainer.max_epochs": [0, 1],
    "trainer.min_steps": [5],
    "trainer.max_time": ["00:00:00:00", {"minutes": -1}],
    "trainer.limit_train_batches": [0, 0.5, 1.5, -1, 1e-4],
    "trainer.limit_val_batches": [0, 0.5, 2.5, -3],
    "trainer.overfit_batches": [1, 0.5, -1],
    "trainer.val_check_interval": [1, 1000, 0.5, 0, -1, 1.5],
    "trainer.check_val_every_n_epoch": [None, 0, -1],
    "trainer.num_sanity_val_steps": [2, -1, -5],
    "trainer.log_every_n_steps": [0, -1],
    "trainer.enable_checkpointing": [True, False],
    "trainer.enable_progress_bar": [True, False],
    "trainer.deterministic": [True, "warn"],
    "trainer.detect_anomaly": [True],
    "trainer.barebones": [True],
    "trainer.plugins": ["x", [{"class_path": "TorchCheckpointIO"}], ["a"], 3],
    "trainer.default_root_dir": ["x", "/proc/x"],
    "trainer.logger": [True, False, {"class_path": "CSVLogger", "init_args": {"save_dir": "x"}}],
    "trainer.num_nodes": [0, -1],
    "checkpoints.monitor": ["x", None, "", "train/generator_loss"],
    "grids.num": [1, 1000],
    "engine.clip_norm": [1e-30, 1e30],
    "engine.micro_batches": [1000000],
    "model.init_args.latent_size": [0, -1, 1, 2**40],
    "model.init_args.width": [0, -1, 1, 7, 2**40],
    "model.init_args.generator_lr": [-1, 0, 1e30],
    "model.init_args.beta1": [1, -1, 0],
    "model.init_args.r1_weight": [-1, 1e30],
    "data.init_args.size": [0, -8, 9, 12, 2**40],
    "data.init_args.batch_size": [1, 2**31, 2**40, -1],
    "data.init_args.augmentation": ["x", 3, {"flip": True}, {}, {"no": 2}, {"crop": -1}, True],
    "seed_everything": [True, False, None, 2**32],
    "run": ["", ".", "..", "/proc/x", "a/b/c"],
    "logger": [[], "", [1], "wandbb"],
}  # fmt: skip


@pytest.mark.parametrize("name", RUNNING)
def test_values_that_are_used_when_training_starts(name, aigc, tiny_config, folder):
    for number, value in enumerate(RUNNING[name]):
        config = copy.deepcopy(tiny_config)
        config["trainer"]["max_steps"] = 2
        *sections, last = name.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        if name != "run":  # which the command line alone may name
            place[last] = value
        work = folder / "w" / str(number)  # whose parent may be taken as a run's folder
        work.mkdir(parents=True)
        (work / "a.yaml").write_text(yaml.safe_dump(config))
        answered(aigc("fit", "--config", work / "a.yaml", "--run", value if name == "run" else work / "run"), value)


OPTIONS = st.sampled_from(
    ["--model", "--data", "--model.width", "--model.init_args.width", "--model.init_args", "--data.size", "--trainer",
     "--trainer.max_steps", "--trainer.callbacks", "--trainer.logger", "--trainer.strategy", "--trainer.plugins",
     "--trainer.devices", "--trainer.precision", "--trainer.profiler", "--engine", "--engine.clip_norm", "--grids",
     "--grids.num", "--checkpoints", "--checkpoints.monitor", "--run", "--resume", "--logger", "--max_images",
     "--seed_everything", "--print_config", "--config", "--model+", "--model.help", "--data.augmentation", "-x", "--"]
)  # fmt: skip


@FUZZ
@given(pairs=st.lists(st.tuples(OPTIONS, st.none() | PLAIN | GARBAGE, st.booleans()), max_size=3))
def test_any_options(pairs, aigc, tiny, instantiated):
    argv = ["fit", "--config", str(tiny)]
    for option, value, joined in pairs:
        text = "" if value is None else str(value).replace("\0", "")
        argv += [f"{option}={text}"] if joined else [option, *([text] if value is not None else [])]
    answered(aigc(*argv), argv)


def check(aigc, folder, text):
    path = folder / "fuzzed.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    answered(aigc("fit", "--config", path), text)


def answered(done, given_):
    assert done.code in (0, 2), given_
    assert "Traceback" not in done.out + done.err, given_
    if done.code == 2:
        assert done.err.startswith("Error: ") or "\nError: " in done.err, done.err
        assert 1 <= len(done.err[done.err.index("Error: ") :].splitlines()) <= 4, done.err
