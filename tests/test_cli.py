"""The front door."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from aigc_lightning import __version__, cli

HEAVY = (
    "torch",
    "lightning",
    "numpy",
    "jsonargparse",
    "wandb",
    "rich",
    "PIL",
    "sklearn",
    "aigc_lightning.models.dcgan",
)
ANSWERS_AT_ONCE = [[], ["--help"], ["--version"], ["models"], ["data", "--json"], ["configs"], ["fit", "--help"],
                   ["sample", "--help"], ["validate", "--help"], ["export", "--help"],
                  ["completion", "words", "fit", "--model", ""],
                  ["verify", "--help"], ["trust", "keys", "new", "--help"]]  # fmt: skip


INTERRUPTED = """
import sys
from aigc_lightning import cli, plugins

class Command:
    def load(self):
        sys.path.insert(0, ".")
        if {swallowed}:
            try:
                import slow
            except BaseException:
                print("swallowed", flush=True)
        print("ready", flush=True)
        import time
        time.sleep(60)

plugins.find = lambda kind, name: Command()
sys.exit(cli.main(["any"]))
"""


@pytest.mark.parametrize("swallowed", [True, False], ids=["in an import", "elsewhere"])
def test_ctrl_c_ends_the_process_wherever_it_is(swallowed, folder):
    (folder / "slow.py").write_text("print('ready', flush=True)\nimport time\ntime.sleep(60)\n")
    code = INTERRUPTED.format(swallowed=swallowed)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")


@pytest.mark.parametrize("argv", ANSWERS_AT_ONCE, ids=" ".join)
def test_help_and_listings_import_nothing_heavy(argv, aigc_process):
    code = f"""
import sys
from aigc_lightning.cli import main
try:
    code = main({argv!r})
except SystemExit as exit_:
    code = exit_.code or 0
print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])
sys.exit(code)
"""
    done = aigc_process(sys.executable, "-c", code)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "HEAVY []"
    assert len(done.out.splitlines()) > 1


def test_the_installed_program_and_the_module_are_the_same(script, aigc_process):
    first, second = aigc_process(script, "--version"), aigc_process(sys.executable, "-m", "aigc_lightning", "--version")
    assert first.code == second.code == 0
    assert first.out == second.out and first.out.startswith(f"aigc_lightning {__version__}\n")


@pytest.mark.parametrize("call", ["script", "module"])
def test_the_exit_code_of_a_mistake_reaches_the_shell(call, script, aigc_process):
    command = [script] if call == "script" else [sys.executable, "-m", "aigc_lightning"]
    done = aigc_process(*command, "modles")
    assert done.code == 2 and done.out == "" and "models" in done.err and len(done.lines) == 2


def test_a_reader_that_leaves_early_is_no_error(script, folder):
    done = subprocess.run(f"{script} fit --help | head -1", shell=True, capture_output=True, text=True, cwd=folder)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_a_run_from_the_shell(script, aigc_process, tiny, folder):
    done = aigc_process(script, "fit", "--config", tiny)
    assert done.code == 0, done.err
    assert done.err == ""
    assert done.out.splitlines()[0] == "Starting tiny ..."
    assert "Run folder: runs/tiny/1" in done.out and "Next: aigc sample runs/tiny/1" in done.out
    assert (folder / "runs" / "tiny" / "1" / "checkpoints" / "last.ckpt").is_file()
    failed = aigc_process(script, "fit", "--config", tiny, "--model.widht", 3)
    assert failed.code == 2 and len(failed.lines) == 2 and "model.width" in failed.err


def test_every_command_is_in_the_help_with_what_it_does(aigc):
    shown = aigc("--help").out
    for command in ("fit", "validate", "test", "predict", "sample", "export", "models", "data", "configs"):
        line = next(line for line in shown.splitlines() if line.split()[:1] == [command])
        assert len(line.split()) > 3
    assert aigc().out == shown == aigc("help").out == aigc("-h").out


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_the_help_of_a_stage_is_one_screen(stage, aigc):
    lines = aigc(stage, "--help").out.splitlines()
    options = lines.index("Examples")
    assert 20 < options <= 60 and len(lines) - options <= 6
    assert max(map(len, lines)) <= 120
    assert aigc(stage, "-h").out.splitlines() == lines


def test_the_short_help_names_options_that_exist(aigc):
    from aigc_lightning.config.options import option_names

    words = [word.strip(",") for word in aigc("fit", "--help").out.split() if word.startswith("--")]
    own = {"config", "print_config", "help-all", "trust-config", "debug", "help", "data.OPTION", "model.OPTION"}
    named = {word.removeprefix("--") for word in words} - own - {"trainer.OPTION"}
    assert len(named) > 15
    assert named - set(option_names("fit")) == set()


def test_the_whole_help_has_every_option(aigc):
    shown = aigc("fit", "--help-all").out
    for option in (
        "--trainer.gradient_clip_val",
        "--engine.clip_norm",
        "--ema.decay",
        "--resume",
        "--checkpoints.monitor",
        "--grids.num",
    ):
        assert option in shown


def test_options_of_a_model_by_name(aigc):
    assert "--model.latent_size" in aigc("fit", "--model.help", "dcgan").out


def test_only_mistakes_are_answered_shortly(monkeypatch, capsys):
    def broken(argv):
        raise RuntimeError("a bug")

    monkeypatch.setattr("aigc_lightning.cli.plugins.find", lambda kind, name: SimpleNamespace(load=lambda: broken))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["anything"])


@pytest.mark.parametrize(("command", "keeps"), [("evaluate", True), ("index", True), ("ui", True), ("fit", False)])
def test_commands_that_use_models_keep_the_memory_that_they_free(command, keeps, monkeypatch):
    called = []
    monkeypatch.setattr("aigc_lightning.cli.keep_memory", lambda: called.append("kept"))
    found = SimpleNamespace(load=lambda: lambda arguments: called.append("run"))
    monkeypatch.setattr("aigc_lightning.cli.plugins.find", lambda kind, name: found)
    cli.main([command])
    assert called == (["kept", "run"] if keeps else ["run"])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "/some/where"), "/some/where"),
    ],
)
def test_a_full_disk_is_said_shortly(error, said, monkeypatch, capsys):
    def full(argv):
        raise error

    monkeypatch.setattr("aigc_lightning.cli.plugins.find", lambda kind, name: SimpleNamespace(load=lambda: full))
    assert cli.main(["anything"]) == 2
    assert said in capsys.readouterr().err


def test_listings_as_json(aigc):
    models = json.loads(aigc("models", "--json").out)
    assert next(row for row in models if row["name"] == "dcgan")["summary"].startswith("GAN")


def test_ctrl_c_leaves_without_a_traceback(aigc, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aigc_lightning.plugins.find", interrupted)
    done = aigc("sample", "x")
    assert done.code == 130 and done.lines == ["", "Interrupted."]
