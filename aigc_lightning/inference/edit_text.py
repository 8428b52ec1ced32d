"""The text that an edited picture carries; imports no torch."""

import json
from collections.abc import Mapping

from aigc_lightning import __version__


def edit_text(model: dict[str, object] | None, operations: str, beside: Mapping[str, object]) -> dict[str, str]:
    """Return the text that an edited picture carries: that it was edited, and by what.

    Args:
        model: its class path, checkpoint and hash, or the name of a method without weights, and what it was told; None
            where neither was used.
        operations: plain operations as they were written.
        beside: the files that the model got beside the picture, such as its mask.
    """
    by = " and ".join(text for text in (_by(model) if model else "", operations) if text)
    return {
        "Software": f"aigc_lightning {__version__}",
        "Description": f"Image edited by {by}",
        "Source": "edited",
        "aigc": json.dumps({"generated": False, "edited": True, **(model or {}), **beside, "operations": operations}),
    }


def _by(model: Mapping[str, object]) -> str:
    return f"a machine-learning model ({model['model']})" if "model" in model else f"the method {model['method']}"
