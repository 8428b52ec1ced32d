"""Shared parts of `aigc job slurm` and `aigc job torchrun`: options, the job that they describe, writing its script."""

import argparse
import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

from aigc_lightning.commands.job.scripts import Job
from aigc_lightning.config.command_line import command_parser, parse_known
from aigc_lightning.config.request import Request, read_request, value_of
from aigc_lightning.core.io.atomic import no_follow
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE, HIDDEN, is_secret_name, redacted
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command


def job_parser(launcher: str, *examples: str) -> argparse.ArgumentParser:
    """Return a parser with the options shared by all launchers, and examples for its help."""
    parser = command_parser(
        f"aigc job {launcher}",
        f"Write a script that trains on several nodes under {launcher}.",
        *examples,
        note="All other options are those of `aigc fit`, such as --config C or --data.batch_size 32.",
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument(
        "--gpus", type=int, default=1, help="GPUs per machine, with one process each; 0 for none (default: 1)"
    )
    parser.add_argument("--processes", type=int, help="processes on each machine, without GPUs (default: 1)")
    parser.add_argument("--cpus", type=int, default=4, help="CPU cores per process (default: 4)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the script (default: print it)")
    return parser


def parse_job(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options of a job, and those to pass on to `aigc fit`.

    Raises:
        UserError: an option is missing or wrong.
    """
    options, rest = parse_known(parser, argv)
    for name, least in {"nodes": 1, "gpus": 0, "processes": 1, "cpus": 1}.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}.", f"Give at least {least}.")
    if options.gpus and options.processes not in (None, options.gpus):
        raise UserError(
            f"--processes {options.processes} contradicts --gpus {options.gpus}: each GPU has one process.",
            "Leave --processes out, or give --gpus 0.",
        )
    return options, rest


def job_of(options: argparse.Namespace, rest: list[str]) -> Job:
    """Return the job; options that it sets itself are removed from those of `aigc fit`."""
    processes = options.gpus or options.processes or 1
    settled = {"trainer.num_nodes": str(options.nodes), "trainer.devices": str(processes)}
    settled["trainer.accelerator"] = "gpu" if options.gpus else "cpu"
    for name, value in settled.items():
        given = value_of(rest, f"--{name}")
        if given not in (None, value):
            raise UserError(f"--{name} {given} disagrees with the job, which sets {value}.", f"Leave --{name} out.")
    if (resumed := value_of(rest, "--resume")) is not None or "--resume" in rest:
        target = resumed if resumed and not resumed.startswith("-") else "RUN_FOLDER"
        raise UserError(
            "The job resumes automatically.",
            f"Leave --resume out. To continue a run, write {command('--run', target)}.",
        )
    run = value_of(rest, "--run")
    name = re.sub(r"[^\w.-]", "_", _check_options(rest).name)
    options_of_fit = _without_secrets(_without(rest, "--run"))
    return Job(name, options_of_fit, sys.executable, options.nodes, processes, options.gpus, options.cpus, run)


def _without_secrets(given: list[str]) -> list[str]:
    """Return options to write to a file that others may read.

    Raises:
        UserError: an option is itself a secret.
    """
    for argument in given:
        name = argument.partition("=")[0]
        if name.startswith("--") and is_secret_name(name):
            raise UserError(f"{name} is a secret, which a script would show to others.", "Leave it out.")
    return [str(redacted(argument)) for argument in given]


def _without(given: list[str], option: str) -> list[str]:
    rest, kept = list(given), []
    while rest:
        argument = rest.pop(0)
        if argument == option:
            del rest[:1]
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept


def _check_options(rest: list[str]) -> Request:
    """Validate the options as `aigc fit` would, since a job may wait for hours before it starts."""
    request = read_request("fit", rest)
    if request.help or request.prints_only:
        raise UserError("The options of `aigc fit` only print something.", "Leave out --help and --print_config.")

    from aigc_lightning.training.cli import run  # takes seconds: only after the command line has been validated

    try:
        with redirect_stdout(StringIO()):
            run("fit", replace(read_request("fit", rest), parse_only=True))
    except SystemExit as exit_:
        if exit_.code not in (0, None):
            raise
    return request


def write_script(text: str, path: Path | None) -> None:
    """Write the script of a job to a new file, or print it if there is no path.

    Raises:
        UserError: the file already exists.
    """
    if HIDDEN in text:
        echo(
            f"The script leaves out secrets in addresses: export {ADDRESSES_VARIABLE}=ADDRESS before starting it.",
            error=True,
        )
    if path is None:
        sys.stdout.write(text)
        return
    if os.path.lexists(path):
        raise UserError(f"{path} exists already.", "Choose another name with --out, or remove it.")
    with open(path, "x", encoding="utf-8", opener=no_follow) as file:
        file.write(text)
    echo(f"Wrote {path}.")
