"""The texts of job scripts; standard library only."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE, HIDDEN


@dataclass(frozen=True)
class Job:
    """The run that a job script starts.

    Args:
        name: name of the run.
        options: options of `aigc fit`, without secrets.
        python: the interpreter with the package.
        nodes: number of machines.
        processes: number of processes per node.
        gpus: GPUs per node; 0 to train on CPUs.
        cores: CPU cores per process.
        run: folder of the run; None for one named after the job.
    """

    name: str
    options: Sequence[str]
    python: str
    nodes: int
    processes: int
    gpus: int
    cores: int
    run: str | None = None

    @property
    def note(self) -> str:
        """A comment about redacted secrets, "" if there are none."""
        if not any(HIDDEN in option for option in self.options):
            return ""
        return f"# Secrets in addresses are left out here: export {ADDRESSES_VARIABLE}=ADDRESS before starting it.\n"

    @property
    def command(self) -> str:
        """The module and its arguments, for a template."""
        device = "gpu" if self.gpus else "cpu"
        numbers = f"--trainer.accelerator {device} --trainer.devices {self.processes} --trainer.num_nodes {self.nodes}"
        options = shlex.join(self.options).replace("$", "$$")
        return f'aigc_lightning fit \\\n  {options} \\\n  {numbers} \\\n  --run "$$run" --resume auto'


def slurm_script(job: Job, time: str) -> str:
    """Return a script for sbatch.

    Args:
        job: what to start.
        time: limit of the job, in Slurm's notation.
    """
    run = shlex.quote(job.run) if job.run else f'{shlex.quote(f"runs/{job.name}")}/slurm-"$SLURM_JOB_ID"'
    values = {
        "name": job.name,
        "note": job.note,
        "nodes": job.nodes,
        "tasks": job.processes,
        "gpus": f"#SBATCH --gpus-per-node={job.gpus}\n" if job.gpus else "",
        "cores": job.cores,
        "time": time,
        "run": run,
        "python": shlex.quote(job.python),
    }
    return Template(_SLURM.replace("@command@", job.command)).substitute(values)


def torchrun_script(job: Job, head: str, port: int, max_restarts: int) -> str:
    """Return a script to start on every node.

    Args:
        job: what to start; its `run` is not None.
        head: name or address of the first node.
        port: rendezvous port on that node.
        max_restarts: how often the processes are restarted after one of them fails.
    """
    assert job.run is not None
    values = {
        "name": job.name,
        "note": job.note,
        "nodes": job.nodes,
        "processes": job.processes,
        "cores": job.cores,
        "head": shlex.quote(head),
        "port": port,
        "max_restarts": max_restarts,
        "run": shlex.quote(job.run),
        "python": shlex.quote(job.python),
    }
    return Template(_TORCHRUN.replace("@command@", job.command)).substitute(values)


_SLURM = """\
#!/bin/bash
# Written by `aigc job slurm`. Submit it from the folder in which `aigc fit` would be run, with your site's own options:
#   sbatch --account=... --partition=... THIS_FILE
# Two minutes before its time is over the run is saved and the job goes back into the queue, until the run is finished.
$note#SBATCH --job-name=aigc-$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$tasks
$gpus#SBATCH --cpus-per-task=$cores
#SBATCH --time=$time
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.out
#SBATCH --open-mode=append

python=$python # the same path on all nodes
run=$run # on a disk that all nodes see
last=$$run/checkpoints/last.ckpt

MASTER_ADDR=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$$((20000 + SLURM_JOB_ID % 10000)) # a node may have several jobs; above are the system's own ports
OMP_NUM_THREADS=$$SLURM_CPUS_PER_TASK
export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS

saved() { stat --format=%y "$$last" 2>/dev/null; }
before=$$(saved)
warned=no

# srun writes the output of all processes. It does not inherit the cores per task from the job. When a process ends, the
# others have five minutes to finish, for example to write the first one's last log lines.
srun --label --cpus-per-task="$$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=300 \\
  "$$python" -m @command@ &
step=$$!
trap 'warned=yes; kill -USR1 "$$step"' USR1 # srun forwards it: all processes stop at the same step and save

wait "$$step"
code=$$?
while kill -0 "$$step" 2>/dev/null; do # a signal ends `wait`, not the step
  wait "$$step"
  code=$$?
done

if [ "$$code" != 0 ] && [ "$$warned" = yes ]; then
  if [ "$$(saved)" != "$$before" ]; then
    echo "Time is nearly over: $$run is saved, job $$SLURM_JOB_ID goes back into the queue."
    exec scontrol requeue "$$SLURM_JOB_ID"
  fi
  echo "Time is nearly over and nothing was saved in it: ask for more time." >&2
fi
exit "$$code"
"""

_TORCHRUN = """\
#!/bin/bash
# Written by `aigc job torchrun`. Start it on every node, in the folder in which `aigc fit` would be run, with the
# node's number: 0 for the first one, then 1, 2 ...
#   bash THIS_FILE NUMBER
# Started again on all nodes, it continues the same run. A finished run exits at once.
$note
python=$python # the same path on all nodes
run=$run # on a disk that all nodes see
head=$head # name or address of the first node, as the others reach it
nodes=$nodes
number=$${1:-$$((nodes == 1 ? 0 : -1))}
if ! [ "$$number" -ge 0 ] || ! [ "$$number" -lt "$$nodes" ]; then
  echo "Give the number of this node: 0 on the first one, up to $$((nodes - 1))." >&2
  exit 2
fi

export OMP_NUM_THREADS=$cores
if [ "$$nodes" -gt 1 ]; then
  # The network device on the way to the first node: gloo would take the one that the node's own name stands for, which
  # may be 127.0.0.1.
  own=$$("$$python" -c 'import socket, sys
probe = socket.socket(type=socket.SOCK_DGRAM)
probe.connect((sys.argv[1], 9))
print(probe.getsockname()[0])' "$$head") || exit
  case $$own in 127.*)
    echo "$$head is $$own to this node: give an address that all nodes reach." >&2
    exit 2
    ;;
  esac
  device=$$(ip -o -4 address 2>/dev/null | awk -v own="$$own/" 'index($$4, own) == 1 { print $$2; exit }')
  [ -z "$$device" ] || export GLOO_SOCKET_IFNAME="$${GLOO_SOCKET_IFNAME:-$$device}"
fi

# Not --rdzv-backend c10d: a node that is cut off would wait there for the network's own limit, a quarter of an hour.
# `--` ends the options of torchrun, which would take --run for one of them.
exec "$$python" -m torch.distributed.run \\
  --nnodes "$$nodes" --node-rank "$$number" --nproc-per-node $processes --max-restarts $max_restarts \\
  --master-addr "$$head" --master-port $port \\
  -m -- @command@
"""
