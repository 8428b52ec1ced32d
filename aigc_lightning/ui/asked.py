"""Reading what the page asks for: plain values of known types, or a `UserError`."""

from collections.abc import Mapping
from typing import Any

from aigc_lightning.errors import UserError

_LONGEST = 4000


class Asked:
    """The JSON object of a request.

    Args:
        values: what came, of any type.

    Raises:
        UserError: it is no object.
    """

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise UserError("The request is no JSON object.", "Reload the page.")
        self._values: Mapping[str, Any] = values

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > _LONGEST or "\0" in value:
            raise UserError(f"{name} is not a text of up to {_LONGEST} characters.", "Give a shorter one.")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number within limits."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UserError(f"{name} is {value!r}.", f"Give a whole number from {least} to {most}.")
        return value

    def texts(self, name: str, most: int) -> list[str]:
        """Return a list of texts."""
        value = self._values.get(name) or []
        if not isinstance(value, list) or len(value) > most:
            raise UserError(f"{name} is not a list of up to {most} texts.", "Give fewer.")
        return [Asked({name: item}).text(name) for item in value]

    def options(self) -> dict[str, str]:
        """Return the values of options by name, as texts."""
        value = self._values.get("options") or {}
        if not isinstance(value, dict) or len(value) > 200:
            raise UserError("options is not an object of up to 200 texts.", "Reload the page.")
        for name in value:
            if not all(part.isidentifier() for part in name.split(".")):
                raise UserError(f"{name!r} is not the name of an option.", "Reload the page.")
        return {name: Asked(value).text(name) for name in value}
