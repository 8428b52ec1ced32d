#!/usr/bin/env bash
# All measurements for a machine with a GPU; torch 2.11 or later, nothing is downloaded.
#
#     bash benchmarks/gpu.sh [--cpu] [FOLDER]
#
# Writes a file for each table into FOLDER (gpu-benchmarks): the machine, the steps of all models, the start-up, the
# input, and a whole run with and without compiled networks. A part that fails does not keep the others from running;
# the script then ends with 1 and names it. `--cpu` is for machines without a GPU: the same in small, to see that it
# works. PYTHON names the interpreter, if it is not `python`.
set -uo pipefail

cpu=""
if [ "${1:-}" = "--cpu" ]; then
  cpu="--cpu"
  shift
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mkdir -p "${1:-gpu-benchmarks}" && cd "${1:-gpu-benchmarks}" && pwd) || exit 1
python=${PYTHON:-python}
failed=""

part() { # name, command: runs it, shows it and keeps what it prints
  local name=$1
  shift
  echo "== $name: $*"
  if ! "$@" 2>&1 | tee "$folder/$name.txt"; then
    failed="$failed $name"
  fi
}

aigc() { # in a folder of its own, so that runs of the user are left alone
  (cd "$folder" && "$python" -m aigc_lightning "$@")
}

run() { # name, options: a whole run, with its time
  local name=$1
  shift
  rm -rf "${folder:?}/run_$name"
  time aigc fit --run "run_$name" "$@"
}

if [ -z "$cpu" ]; then
  "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "torch sees no GPU here. Add --cpu to see whether the script works." >&2
    exit 1
  }
  part machine bash -c 'nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv || true
    "$0" -m aigc_lightning doctor' "$python"
  part steps "$python" "$here/gpu.py"
  part startup "$python" "$here/startup.py"
  part input "$python" "$here/input.py"
  for accelerated in false true; do
    part "fit_compile_$accelerated" run "compile_$accelerated" --config dcgan_digits --compile "$accelerated" \
      --model.width 64 --data.size 64 --data.batch_size 256 --trainer.max_steps 2000 --trainer.limit_val_batches 0
  done
  part fit_pairs run pairs --config pix2pix_shapes --data.size 256 --data.batch_size 16 --trainer.max_steps 300 \
    --trainer.limit_val_batches 0
else
  part machine "$python" -m aigc_lightning doctor
  part steps "$python" "$here/gpu.py" --cpu --no-compile --precision 32-true bf16-mixed -- vae cnn
  part startup "$python" "$here/startup.py" --runs 1
  part fit run small --config dcgan_digits --trainer.max_steps 20 --trainer.limit_val_batches 0 --trainer.accelerator cpu
fi

echo
if [ -n "$failed" ]; then
  echo "Failed:$failed. See $folder." >&2
  exit 1
fi
echo "All tables are in $folder."
