"""What "auto" chooses on which hardware, and that a run keeps it."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.launch import SaidByFirstError
from aigc_lightning.training import precision


def trainer(**given):
    return SimpleNamespace(**{"precision": "auto", "accelerator": "auto", "strategy": "auto", "plugins": None, **given})


def processor(monkeypatch, *units):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True), raising=False)


def gpus(monkeypatch, *capabilities):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capabilities[number])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")


@pytest.mark.parametrize(
    ("units", "chosen", "why"),
    [
        ([], "32-true", "no instructions"),
        (["avx512_f", "avx512_vnni"], "32-true", "no instructions"),
        (["avx512_bf16"], "bf16-mixed", "AVX-512"),
        (["avx512_bf16", "amx_tile"], "bf16-mixed", "AMX"),
    ],
)
@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_processors(accelerator, units, chosen, why, monkeypatch):
    processor(monkeypatch, *units)
    found = precision.choose(trainer(accelerator=accelerator))
    assert found.precision == chosen and why in found.reason


def test_processors_that_an_older_torch_knows(monkeypatch):
    processor(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert precision.choose(trainer()).precision == "bf16-mixed"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert precision.choose(trainer()).precision == "32-true"


@pytest.mark.parametrize(
    ("capabilities", "chosen", "why"),
    [
        ([(9, 0)], "bf16-mixed", "9.0"),
        ([(8, 0), (8, 6)], "bf16-mixed", "8.0"),
        ([(7, 5)], "32-true", "7.5"),
        ([(8, 0), (7, 0)], "32-true", "GPU 1"),  # the weakest decides, since all compute the same
    ],
)
@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_gpus(accelerator, capabilities, chosen, why, monkeypatch):
    gpus(monkeypatch, *capabilities)
    found = precision.choose(trainer(accelerator=accelerator))
    assert found.precision == chosen and why in found.reason


def test_a_run_on_the_processor_asks_no_gpu(monkeypatch):
    gpus(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert precision.choose(trainer(accelerator="cpu")).precision == "32-true"
    monkeypatch.setattr(torch.cuda, "get_device_capability", None)  # a call would fail
    assert precision.choose(trainer(strategy="DDPStrategy(start_method='forkserver')")).precision == "32-true"


def test_other_accelerators_keep_single_precision(monkeypatch):
    processor(monkeypatch, "avx512_bf16")
    assert precision.choose(trainer(accelerator="mps")).precision == "32-true"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert precision.choose(trainer()).precision == "32-true"


def test_what_was_asked_for_is_left_alone(monkeypatch):
    processor(monkeypatch, "avx512_bf16")
    for asked in (None, "32-true", "bf16", 16):
        values = SimpleNamespace(trainer=trainer(precision=asked))
        assert precision.settle(values, {RECORD_KEY: {"precision": "64-true"}}) is None
        assert values.trainer.precision == asked


def test_a_precision_that_is_emulated_is_said(monkeypatch):
    processor(monkeypatch)
    line = precision.settle(SimpleNamespace(trainer=trainer(precision="bf16-mixed")), None)
    assert line is not None and "bf16-mixed is emulated" in line and "auto" in line
    assert precision.settle(SimpleNamespace(trainer=trainer(precision="32-true")), None) is None
    processor(monkeypatch, "avx512_bf16")
    assert precision.settle(SimpleNamespace(trainer=trainer(precision="bf16-mixed")), None) is None
    gpus(monkeypatch, (7, 5))
    line = precision.settle(SimpleNamespace(trainer=trainer(precision="bf16-true")), None)
    assert line is not None and "7.5" in line


def test_a_plugin_of_the_trainer_may_be_the_precision(monkeypatch):
    processor(monkeypatch, "avx512_bf16")
    values = SimpleNamespace(trainer=trainer(plugins=["something"]))
    assert precision.settle(values, None) is None and values.trainer.precision is None


def test_all_processes_take_the_choice_of_the_first(monkeypatch):
    processor(monkeypatch)
    asked = []
    monkeypatch.setattr(precision, "agreed", lambda name, choose: asked.append(choose()) or "bf16-mixed\nit says so")
    values = SimpleNamespace(trainer=trainer())
    assert precision.settle(values, None) == "Precision bf16-mixed: it says so."
    assert values.trainer.precision == "bf16-mixed" and asked[0].startswith("32-true\n")

    def fails(name, choose):
        raise SaidByFirstError

    monkeypatch.setattr(precision, "agreed", fails)
    with pytest.raises(SaidByFirstError):
        precision.settle(SimpleNamespace(trainer=trainer()), None)


def saved(run):
    record = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)[RECORD_KEY]
    return yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"], record["precision"]


def test_a_run_says_and_keeps_what_was_chosen(aigc, write, folder, monkeypatch):
    processor(monkeypatch, "avx512_bf16")
    tiny = write("tiny.yaml", {"trainer": {"precision": "auto"}})
    done = aigc("fit", "--config", tiny)
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("Precision")]
    assert lines == ["Precision bf16-mixed: the CPU has instructions for bf16 (AVX-512)."]
    run = folder / "runs" / "tiny" / "1"
    assert saved(run) == ("bf16-mixed", "bf16-mixed")
    assert lines[0] in (run / "log.txt").read_text()

    # On another machine the run, and what is made of its checkpoint, stay what they were.
    processor(monkeypatch)
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 4)
    assert done.code == 0 and "Precision bf16-mixed: as in the checkpoint." in done.out, done.err
    assert saved(run) == ("bf16-mixed", "bf16-mixed")
    assert "bf16-mixed is emulated" in aigc("fit", "--config", run / "config.yaml", "--run", "again").out
    assert saved(Path("again")) == ("bf16-mixed", "bf16-mixed")


def test_auto_is_what_a_run_does_when_nobody_says(aigc, write, folder, monkeypatch):
    write("tiny.yaml")
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    del config["trainer"]["precision"]
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    processor(monkeypatch)
    assert "Precision 32-true: the CPU has no instructions" in aigc("fit", "--config", "tiny.yaml").out
    assert saved(folder / "runs" / "tiny" / "1") == ("32-true", "32-true")
    # The same numbers as with single precision asked for.
    assert aigc("fit", "--config", "tiny.yaml", "--trainer.precision", "32").code == 0
    losses = [
        [row["train/generator_loss"] for row in csv.DictReader((folder / f"runs/tiny/{n}/metrics.csv").open())]
        for n in (1, 2)
    ]
    assert losses[0] == losses[1] and len(losses[0]) >= 3


def test_scores_of_a_checkpoint_are_computed_as_in_its_run(aigc, write, folder, monkeypatch):
    processor(monkeypatch, "avx512_bf16")
    tiny = write("tiny.yaml", {"trainer": {"precision": "auto"}})
    assert aigc("fit", "--config", tiny).code == 0
    processor(monkeypatch)
    seen = []
    monkeypatch.setattr(
        precision.RunTrainer, "validate", lambda self, *_, **__: seen.append(self.precision_plugin.precision)
    )
    done = aigc("validate", "--config", tiny, "--checkpoint", "runs/tiny/1")
    assert done.code == 0 and seen == ["bf16-mixed"], done.err


def test_an_unknown_precision_is_refused_with_what_there_is(aigc, tiny):
    done = aigc("fit", "--config", tiny, "--trainer.precision", "half")
    assert done.code == 2 and len(done.lines) <= 4
    assert all(text in done.err for text in ("trainer.precision", "auto", "bf16-mixed", "half"))


def test_products_of_matrices_on_a_gpu_are_put_back(monkeypatch):
    before = torch.get_float32_matmul_precision()
    with precision.fast_products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_a_run_on_a_gpu_has_fast_convolutions_and_products(aigc, tiny, monkeypatch):
    seen: dict[str, Any] = {}
    monkeypatch.setattr(precision, "uses_cuda", lambda trainer: True)
    monkeypatch.setattr(
        precision.RunTrainer,
        "fit",
        lambda self, *_, **__: seen.update(
            product=torch.get_float32_matmul_precision(), benchmark=torch.backends.cudnn.benchmark
        ),
    )
    monkeypatch.setattr(precision.RunTrainer, "interrupted", False, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert aigc("fit", "--config", tiny).code == 0
    assert seen == {"product": "high", "benchmark": True}
    assert aigc("fit", "--config", tiny, "--trainer.deterministic", "true").code == 0
    assert seen["benchmark"] is False
    torch.use_deterministic_algorithms(False)
