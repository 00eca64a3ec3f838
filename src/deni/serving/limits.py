"""How much a server takes: of one request, and of all that wait."""

from __future__ import annotations

from dataclasses import dataclass, fields

from deni.errors import SettingError, short


@dataclass(frozen=True)
class Limits:
    """How much a server takes.

    Args:
        max_body: bytes of a request.
        max_texts: texts of a request.
        max_tokens: tokens of all texts of a request, before the model cuts them.
        max_waiting: texts of all requests that wait; further ones are refused until there are fewer.
    """

    max_body: int = 1_048_576
    max_texts: int = 256
    max_tokens: int = 65_536
    max_waiting: int = 4_096

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"{field.name} must be a whole number of at least 1, not {short(value)}")
        if self.max_waiting < self.max_texts:
            raise SettingError(
                f"max_waiting {self.max_waiting} is below max_texts {self.max_texts}: a request of so many texts would "
                "never be taken; raise the first or lower the second"
            )
