"""Job scripts: what is in them, and what they do between a Slurm of a few lines."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

FIT = ["--model=dcgan", "--data=digits", "--trainer.max_steps=9"]
SLURM = ["job", "slurm", *FIT, "--nodes=2", "--gpus=4", "--time=24:00:00"]
TORCHRUN = ["job", "torchrun", *FIT, "--nodes=2", "--gpus=4", "--head=n1"]


def test_the_numbers_of_a_slurm_job_agree(aigc):
    text = aigc(*SLURM, "--cpus=6").out
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=6", "time=24:00:00"):
        assert f"#SBATCH --{line}\n" in text
    assert "--trainer.accelerator gpu --trainer.devices 4 --trainer.num_nodes 2" in text
    assert f"\npython={sys.executable} #" in text
    assert "#SBATCH --signal=B:USR1@120\n" in text and "#SBATCH --requeue\n" in text
    directives = [number for number, line in enumerate(text.splitlines()) if line.startswith("#SBATCH")]
    first_command = next(n for n, line in enumerate(text.splitlines()) if line and not line.startswith("#"))
    assert max(directives) < first_command  # Slurm reads no further


def test_a_job_without_gpus(aigc):
    text = aigc(*SLURM, "--gpus=0", "--processes=3").out
    assert "gpus-per-node" not in text
    assert "#SBATCH --ntasks-per-node=3\n" in text
    assert "--trainer.accelerator cpu --trainer.devices 3 --trainer.num_nodes 2" in text


def test_the_numbers_of_torchrun_agree(aigc):
    text = aigc(*TORCHRUN, "--max-restarts=5", "--port=1234").out
    assert "\nnodes=2\n" in text and '--nnodes "$nodes"' in text
    assert "--nproc-per-node 4 --max-restarts 5" in text
    assert '--master-addr "$head" --master-port 1234' in text
    assert "--trainer.accelerator gpu --trainer.devices 4 --trainer.num_nodes 2" in text
    assert re.search(r"^run=runs/dcgan_digits/torchrun-\d{8}-\d{6} #", text, re.MULTILINE)


@pytest.mark.parametrize("command", [SLURM, TORCHRUN])
def test_options_reach_the_shell_as_they_were_given(aigc, command):
    odd = "--data.augmentation=null"
    text = aigc(*command, odd, "--run=a $HOME 'b", "--seed_everything=3").out
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0
    assignment = next(line for line in text.splitlines() if line.startswith("run="))
    shown = subprocess.check_output(["bash", "-c", f'{assignment}\nprintf %s "$run"'], text=True)
    assert shown == "a $HOME 'b"
    assert f"{odd} --seed_everything=3" in text
    assert "--run=" not in text and text.count('--run "$run"') == 1


def test_the_script_goes_to_a_file_that_is_not_there_yet(aigc, folder):
    assert "Next: sbatch job.sh" in aigc(*SLURM, "--out=job.sh").out
    written = (folder / "job.sh").read_text()
    assert written == aigc(*SLURM).out
    outcome = aigc(*SLURM, "--out=job.sh", "--nodes=3")
    assert (outcome.code, outcome.lines[0]) == (2, "Error: job.sh exists already.")
    assert (folder / "job.sh").read_text() == written


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["job", "pbs"], "`aigc job` has no 'pbs'"),
        (["job", "slurm", *FIT], "--time"),
        (["job", "torchrun", *FIT, "--nodes=2"], "2 nodes need one to meet at"),
        ([*SLURM, "--time=soon"], "--time soon is no time"),
        ([*SLURM, "--time=4"], "less than 5 minutes"),
        ([*SLURM, "--time=00:04:59"], "less than 5 minutes"),
        ([*SLURM, "--nodes=0"], "--nodes is 0"),
        ([*SLURM, "--nodes=two"], "--nodes"),
        ([*SLURM, "--processes=2"], "contradicts --gpus 4"),
        ([*SLURM, "--trainer.num_nodes=3"], "--trainer.num_nodes 3 disagrees with the job, which sets 2"),
        ([*SLURM, "--trainer.devices", "3"], "--trainer.devices 3 disagrees with the job, which sets 4"),
        ([*SLURM, "--trainer.accelerator=cpu"], "--trainer.accelerator cpu disagrees"),
        ([*SLURM, "--resume"], "The job resumes automatically"),
        ([*SLURM, "--help"], None),
        ([*SLURM, "--print_config"], "only print something"),
        ([*SLURM, "--config=nowhere.yaml"], "There is no config file nowhere.yaml"),
        ([*SLURM, "--trainer.max_step=3"], "There is no option trainer.max_step"),
        ([*SLURM, "--data.batch_size=many"], "data.batch_size"),
        (["job", "slurm", "--time=20"], "needs a model"),
    ],
)
def test_mistakes_are_told_before_a_job_waits_for_its_turn(aigc, argv, what):
    outcome = aigc(*argv)
    if what is None:
        assert outcome.code == 0 and "--processes" in outcome.out
    else:
        assert outcome.code == 2 and what in outcome.lines[0], outcome.err
        assert len(outcome.lines) <= 4


def test_help_is_given(aigc):
    assert "aigc job slurm --config C" in aigc("job", "--help").out


@pytest.mark.parametrize("time", ["5", "05:00", "0:05:00", "1-0", "2-00:00", "1-00:00:00"])
def test_slurms_times_are_read(aigc, time):
    assert f"#SBATCH --time={time}\n" in aigc(*SLURM, f"--time={time}").out


@pytest.mark.parametrize("number", [[], ["2"], ["-1"], ["first"]])
def test_a_node_needs_a_number_of_its_own(aigc, folder, number):
    aigc(*TORCHRUN, "--out=job.sh")
    result = subprocess.run(["bash", "job.sh", *number], capture_output=True, text=True, timeout=20)
    assert result.returncode == 2
    assert "Give the number of this node: 0 on the first one, up to 1." in result.stderr


FAKE_SRUN = """#!/bin/bash
echo "$@" >srun.arguments
env | grep -E "^(MASTER|OMP)" >srun.environment
mkdir -p "$RUN/checkpoints"
trap 'sleep 0.3; [ "$SAVES" = no ] || echo new >"$RUN/checkpoints/last.ckpt"; exit 143' USR1
touch started
if [ -n "$ENDS" ]; then exit "$ENDS"; fi
while :; do sleep 0.05; done
"""
FAKE_SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'n3\\nn4\\n'; else echo "$@" >scontrol.arguments; fi
"""


@pytest.fixture
def slurm(aigc, folder):
    """Run a written job script between programs that stand for Slurm's; return its exit code and output."""
    script = aigc(*SLURM, "--run=mine").out
    (folder / "job.sh").write_text(script)
    (folder / "bin").mkdir()
    for name, text in {"srun": FAKE_SRUN, "scontrol": FAKE_SCONTROL}.items():
        path = folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(signal=None, **more):
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RUN": "mine", "SLURM_JOB_ID": "4711"}
        environment |= {"SLURM_JOB_NODELIST": "n[3-4]", "SLURM_CPUS_PER_TASK": "6", **more}
        process = subprocess.Popen(
            ["bash", "job.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if signal:
            for _ in range(200):
                if Path("started").exists():
                    break
                time.sleep(0.05)
            process.send_signal(signal)
        output = process.communicate(timeout=20)[0]
        return process.returncode, output

    return run


def test_a_warned_job_is_saved_and_goes_back_into_the_queue(slurm, folder):
    code, output = slurm(signal=10)
    assert code == 0, output
    assert (folder / "scontrol.arguments").read_text() == "requeue 4711\n"
    assert "mine is saved, job 4711 goes back into the queue" in output
    assert "--run mine --resume auto" in (folder / "srun.arguments").read_text()
    environment = (folder / "srun.environment").read_text().splitlines()
    assert sorted(environment) == ["MASTER_ADDR=n3", "MASTER_PORT=24711", "OMP_NUM_THREADS=6"]


def test_a_warned_job_that_saved_nothing_does_not_go_round_for_ever(slurm, folder):
    code, output = slurm(signal=10, SAVES="no")
    assert code == 143
    assert "ask for more time" in output
    assert not (folder / "scontrol.arguments").exists()


@pytest.mark.parametrize("code", ["0", "1", "143"])
def test_a_job_that_ends_by_itself_ends(slurm, folder, code):
    assert slurm(ENDS=code)[0] == int(code)
    assert not (folder / "scontrol.arguments").exists()
