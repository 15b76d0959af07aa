"""A remote file as a seekable stream: each read fetches only the bytes that it needs, over HTTP ranges."""

from __future__ import annotations

import io

from provisioner import download
from provisioner.errors import SourceUnreachable

TAIL = 64 * 1024
"""Bytes of the end that are fetched first: the central directory of most wheels lies in them."""

CHUNK = 64 * 1024
LARGEST_CHUNK = 2 * 1024 * 1024


class RemoteFile(io.RawIOBase):
    """A file at an HTTP URL. ``moved`` counts the bytes fetched so far, ``size`` is the length of the whole.

    Opening and reading raise `SourceUnreachable`; its code is ``ranges-unsupported`` where the server knows no ranges.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._session = download.session()
        tail, self.size = download.get_range(url, f"-{TAIL}", session=self._session)
        self.moved = len(tail)
        self._pieces = {self.size - len(tail): tail}
        self._position = 0
        self._chunk = CHUNK
        self.horizon = 0
        """Up to where reading ahead makes sense; beyond it, only what is asked for is fetched."""

    def close(self) -> None:
        self._session.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` from the current position; fetches at least a chunk, and larger ones while reading goes on."""
        wanted = min(len(buffer), self.size - self._position)
        if wanted <= 0:
            return 0
        piece = self._held(self._position) or self._fetch(wanted)
        taken = piece[:wanted]
        buffer[: len(taken)] = taken
        self._position += len(taken)
        return len(taken)

    def _held(self, position: int) -> bytes:
        for start, piece in self._pieces.items():
            if start <= position < start + len(piece):
                return piece[position - start :]
        return b""

    def _fetch(self, wanted: int) -> bytes:
        start = self._position
        later = min((one for one in self._pieces if one > start), default=self.size)
        continued = any(one + len(piece) == start for one, piece in self._pieces.items())
        self._chunk = min(self._chunk * 2, LARGEST_CHUNK) if continued else CHUNK
        ahead = min(start + self._chunk, max(self.horizon, start))
        end = min(max(start + wanted, ahead), later)
        piece, _ = download.get_range(self._url, f"{start}-{end - 1}", session=self._session)
        if not piece:
            raise SourceUnreachable(f"{download.redact(self._url)} sent nothing for bytes {start}-{end - 1}")
        self.moved += len(piece)
        self._pieces[start] = piece
        return piece
