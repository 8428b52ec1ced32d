"""`aigc doctor`: a report on this machine."""

import platform
from importlib.metadata import PackageNotFoundError, version

from aigc_lightning.commands.doctor.nodes import nodes_report
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.launch import launched

_PACKAGES = ("aigc-lightning", "torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "wandb")


def main(argv: list[str]) -> int:
    """Report on this machine, or on all nodes under srun."""
    parse(
        command_parser(
            "aigc doctor",
            main.__doc__,
            "aigc doctor",
            "srun --nodes 2 aigc doctor",
        ),
        argv,
    )
    report, launch = _machine(), launched()
    if launch is not None and launch.world_size > 1:
        report |= nodes_report(launch, report)
    if launch is None or launch.rank == 0:
        echo(*(f"{name:<16}{value}" for name, value in report.items()))
    return 0


def _machine() -> dict[str, str]:
    """Return what a bug report should say about the machine."""
    import torch  # takes seconds: only after the options have been validated

    from aigc_lightning.core.run.machine import processor

    report = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            report[name] = version(name)
        except PackageNotFoundError:
            report[name] = "not installed"
    report["processors"] = f"{processor()}; {torch.get_num_threads()} threads in torch"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    report["GPUs"] = ", ".join(names) or "none that torch can use"
    launch = launched()
    report["launcher"] = launch.launcher if launch else "none"
    return report
