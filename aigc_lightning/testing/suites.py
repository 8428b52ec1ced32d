"""The conformance kit as pytest classes: subclass one and name the plugin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aigc_lightning.testing.callback_checks import CallbackCase
from aigc_lightning.testing.cases import DataCase, ModelCase
from aigc_lightning.testing.catalogue import CALLBACK_CHECKS, DATA_CHECKS, MODEL_CHECKS
from aigc_lightning.testing.checks import Check, NotApplicableError


def _parameters(checks: Sequence[Check]) -> list[Any]:
    return [pytest.param(check, id=check.name, marks=[pytest.mark.slow] if check.slow else []) for check in checks]


class _Conformance:
    """Common base of the suites."""

    #: Options for all checks, such as ("model.width=8",).
    settings: ClassVar[Sequence[str]] = ()
    #: Checks to skip, each with its reason, which reports show.
    left_out: ClassVar[Mapping[str, str]] = {}

    _cases: ClassVar[dict[type, Any]] = {}

    def _run(self, check: Check, case: Any) -> None:
        if check.name in self.left_out:
            pytest.skip(self.left_out[check.name])
        try:
            check.run(case)
        except NotApplicableError as reason:
            pytest.skip(str(reason))


class ModelConformance(_Conformance):
    """All checks of a model, one test each; those of the full set only are marked `slow`.

    Usage:
        class TestSparkle(ModelConformance):
            model = "sparkle"
    """

    #: Name, `package:name` or class path of the model.
    model: ClassVar[str]
    #: Preset or config file to train with; "" for the first in the model's package, preferring those on digits.
    config: ClassVar[str] = ""

    @pytest.fixture
    def case(self, tmp_path_factory: pytest.TempPathFactory) -> ModelCase:
        """Return the model under test; its training runs are shared by the checks of a suite."""
        if type(self) not in self._cases:
            folder = tmp_path_factory.mktemp("model")
            self._cases[type(self)] = ModelCase("model", self.model, folder, self.settings, self.config)
        found: ModelCase = self._cases[type(self)]
        return found

    @pytest.mark.parametrize("check", _parameters(MODEL_CHECKS))
    def test_conforms(self, check: Check, case: ModelCase) -> None:
        """The model passes a check."""
        self._run(check, case)


class DataConformance(_Conformance):
    """All checks of data, one test each; those of the full set only are marked `slow`.

    Usage:
        class TestDots(DataConformance):
            data = "dots"
    """

    #: Name, `package:name` or class path of the data.
    data: ClassVar[str]
    #: Preset or config file with the data's options; "" for their defaults.
    config: ClassVar[str] = ""

    @pytest.fixture
    def case(self, tmp_path: Path) -> DataCase:
        """Return the data under test."""
        return DataCase("data", self.data, tmp_path, self.settings, self.config)

    @pytest.mark.parametrize("check", _parameters(DATA_CHECKS))
    def test_conforms(self, check: Check, case: DataCase) -> None:
        """The data pass a check."""
        self._run(check, case)


class CallbackConformance(_Conformance):
    """All checks of a callback, one test each. Settings such as ("callback.times=2",) are its arguments.

    Usage:
        class TestBell(CallbackConformance):
            callback = "bell"
    """

    #: Name, `package:name` or class path of the callback.
    callback: ClassVar[str]
    #: Preset or config file to train with; "" for a small GAN and a small variational autoencoder.
    config: ClassVar[str] = ""

    @pytest.fixture
    def case(self, tmp_path_factory: pytest.TempPathFactory) -> CallbackCase:
        """Return the callback under test; its training run is shared by the checks of a suite."""
        if type(self) not in self._cases:
            folder = tmp_path_factory.mktemp("callback")
            self._cases[type(self)] = CallbackCase("callback", self.callback, folder, self.settings, self.config)
        found: CallbackCase = self._cases[type(self)]
        return found

    @pytest.mark.parametrize("check", _parameters(CALLBACK_CHECKS))
    def test_conforms(self, check: Check, case: CallbackCase) -> None:
        """The callback passes a check."""
        self._run(check, case)
