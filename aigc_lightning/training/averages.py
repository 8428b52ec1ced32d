"""How the moving averages of a run's model are kept, as its options say."""

from typing import Any

from aigc_lightning.config.moved_options import in_command_line
from aigc_lightning.config.request import Request, Stage
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError


def settle(model: ImageModel, ema: Ema, stage: Stage, request: Request) -> None:
    """Give a model the settings of its moving averages.

    Args:
        model: as built from the options.
        ema: the settings.
        stage: what is run.
        request: its command line.

    Raises:
        UserError: settings are given that do not act.
    """
    options = [argument for argument in in_command_line(request.given) if argument.startswith("--ema.")]
    if stage != "fit":
        if options:
            raise UserError(f"{options[0]} acts on training only.", "Leave it out: the checkpoint has its averages.")
    # The config of a run may be older than this check.
    elif not model.averaged_networks and (options or (ema != Ema() and request.run_config is None)):
        raise UserError(f"{type(model).__name__} keeps no moving average.", "Leave the options of ema out.")
    model.ema_settings = ema


def settings_of(values: Any) -> Ema:
    """Return the settings that parsed options give."""
    return Ema(**values.ema.as_dict())
