#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for tests and for trying job scripts.
#
# Usage: bash tests/cluster/slurm.sh start FOLDER    prints what to export; everything is kept in the new FOLDER
#        bash tests/cluster/slurm.sh stop FOLDER
#        bash tests/cluster/slurm.sh check           says what is missing, if anything (exit code 1)
#
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge; none of their services, which may stay off. Nodes
# n1 and n2 are two slurmd on this machine. They run where /etc/hosts is a copy that knows these names: the machine's
# own file is left alone.
set -euo pipefail

programs=(munged slurmctld slurmd sbatch srun scontrol unshare)

check() {
  local missing=() program
  for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "${missing[*]} not installed: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "Slurm's daemons need root"
    return 1
  fi
  unshare -m true 2>/dev/null || { echo "mount namespaces are not allowed here"; return 1; }
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# in_background NAME COMMAND...: run a daemon that stays in the foreground of a shell of its own, and note its number.
in_background() {
  local name=$1
  shift
  setsid "$@" >"$folder/$name.out" 2>&1 </dev/null &
  echo $! >"$folder/$name.pid"
}

configuration() {
  cat <<CONF
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.run
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd-%n.run
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdSpoolDir=$folder/spool-%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=5
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(free_port) CPUs=8 RealMemory=1000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(free_port) CPUs=8 RealMemory=1000
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  check
  mkdir -p "$folder"/{state,spool-n1,spool-n2}
  chmod 755 "$folder"
  configuration >"$folder/slurm.conf"
  { cat /etc/hosts; echo "127.0.0.1 n1 n2"; } >"$folder/hosts"
  head -c 128 /dev/urandom >"$folder/munge.key"
  chmod 600 "$folder/munge.key"
  in_background munged munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munged.run" --seed-file="$folder/munge.seed"
  until [ -S "$folder/munge.socket" ]; do sleep 0.1; done
  export SLURM_CONF=$folder/slurm.conf
  local hosts='mount --bind "$0" /etc/hosts && exec "$@"'
  in_background slurmctld slurmctld -D -f "$SLURM_CONF"
  for node in n1 n2; do
    in_background "slurmd-$node" unshare -m bash -c "$hosts" "$folder/hosts" slurmd -D -f "$SLURM_CONF" -N $node
  done
  local tries=0
  until [ "$(sinfo --noheader --format=%T,%D 2>/dev/null)" = idle,2 ]; do
    tries=$((tries + 1))
    if [ $tries -gt 150 ]; then
      echo "the nodes do not come up; see the logs in $folder" >&2
      stop
      return 1
    fi
    sleep 0.2
  done
  echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
  local name number
  export SLURM_CONF=$folder/slurm.conf
  scancel --user="$(id -un)" 2>/dev/null && sleep 1 || true
  for name in slurmd-n1 slurmd-n2 slurmctld munged; do
    number=$(cat "$folder/$name.pid" 2>/dev/null) || continue
    kill "$number" 2>/dev/null || continue
    for _ in $(seq 50); do
      kill -0 "$number" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$number" 2>/dev/null || true
  done
}

case ${1:-} in
  check) check ;;
  start | stop)
    folder=$(realpath -m "${2:?a folder}")
    "$1"
    ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
