"""The conformance kit: tests of what a model or data must do to work with everything else.

A package subclasses `ModelConformance` or `DataConformance` in its tests; `aigc plugins check` runs the same checks
without pytest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aigc_lightning.testing.noise import NoiseImages as NoiseImages
    from aigc_lightning.testing.suites import DataConformance as DataConformance
    from aigc_lightning.testing.suites import ModelConformance as ModelConformance

_HOMES = {"DataConformance": "suites", "ModelConformance": "suites", "NoiseImages": "noise"}
__all__ = ["DataConformance", "ModelConformance", "NoiseImages"]


def __getattr__(name: str) -> Any:
    """Import a class on first access: `aigc plugins check` works without pytest."""
    if name in _HOMES:
        return getattr(import_module(f"aigc_lightning.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
