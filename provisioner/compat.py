"""Names that the oldest supported Python (3.10) lacks in its standard library."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from enum import StrEnum
    from typing import assert_never

    import tomllib
else:
    from enum import Enum

    import tomli as tomllib
    from typing_extensions import assert_never

    class StrEnum(str, Enum):
        """An enumeration whose members are, and print as, their string values."""

        def __str__(self) -> str:
            return str(self.value)


__all__ = ["StrEnum", "assert_never", "tomllib"]
