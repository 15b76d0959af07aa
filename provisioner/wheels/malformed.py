"""The one error of the readers in this package: the file is not what its name says."""

from __future__ import annotations

from provisioner.errors import IntegrityError


class MalformedBinary(IntegrityError):
    """A wheel, an ELF file or its device code is cut off, corrupt or of a kind that no CUDA extension has (exit 5)."""

    default_code = "malformed-binary"

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            why="the download broke off, the file was changed, or it is not a Linux extension",
            hints=["compare its sha256 with the one in the index or in the lock, and fetch it again"],
        )
