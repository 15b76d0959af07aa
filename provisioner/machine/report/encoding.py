"""The bytes of a saved report to text: consoles save in the encoding of their country, PowerShell in UTF-16, and logs mix them.

What tools print of versions and devices is ASCII and survives any choice; what a compiler or a shell says in the user's language does not.
"""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 4096
_MOST = 0.7
"""The share of bytes that decides: a judgement, for Chinese and Russian letters share few of them."""

_HIGH = re.compile(rb"[\x80-\xff]+")
_CHINESE_LEADS = frozenset((*range(0xA1, 0xA4), *range(0xB0, 0xD8)))
"""First bytes of GB 2312's punctuation and of its first level, the 3,755 frequent characters (GB/T 2312-1980)."""

_CONSOLE_CYRILLIC = frozenset((*range(0x80, 0xB0), *range(0xE0, 0xF0)))
"""Letters of code page 866, the Russian console's; in 1251 the letters are C0 to FF (the tables of the Unicode consortium)."""


def decode(raw: bytes) -> str:
    """Return ``raw`` as text; what cannot be read becomes U+FFFD. Never raises.

    A byte order mark decides, then the zero bytes of UTF-16, then each line by itself: UTF-8 where it is valid, else the one legacy
    encoding that the lines which are not UTF-8 look like.
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, "replace")
    if wide := _wide(raw[:_SAMPLE]):
        return raw.decode(wide, "replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _by_line(raw)


def _wide(sample: bytes) -> str | None:
    """UTF-16 without its mark: nearly every second byte of ASCII text is zero there."""
    half = len(sample) // 2
    if half and sample[1::2].count(0) > _MOST * half and not sample[::2].count(0):
        return "utf-16-le"
    if half and sample[::2].count(0) > _MOST * half and not sample[1::2].count(0):
        return "utf-16-be"
    return None


def _by_line(raw: bytes) -> str:
    lines: list[bytes | str] = []
    foreign: list[bytes] = []
    for line in raw.split(b"\n"):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line)
            foreign.append(line)
    legacy = _legacy(foreign)
    return "\n".join(line if isinstance(line, str) else line.decode(legacy, "replace") for line in lines)


def _legacy(lines: list[bytes]) -> str:
    """The encoding that lines which are not UTF-8 look like: Chinese, Russian or Western; UTF-8 where only few bytes are damaged."""
    runs = [run for line in lines for run in _HIGH.findall(line)]
    letters = b"".join(runs)
    if all(_mostly_utf8(line) for line in lines):
        return "utf-8"
    leads = [run[at] for run in runs for at in range(0, len(run) - 1, 2)]
    if leads and sum(lead in _CHINESE_LEADS for lead in leads) > _MOST * len(leads):
        return "gb18030"
    words = b"".join(run for run in runs if len(run) > 2)
    if len(words) <= len(letters) / 2:  # accents and umlauts stand alone
        return "cp1252"
    return "cp866" if sum(byte in _CONSOLE_CYRILLIC for byte in letters) > _MOST * len(letters) else "cp1251"


def _mostly_utf8(line: bytes) -> bool:
    """Whether at most one place of a line is no UTF-8: a cut, or a byte lost in between."""
    text = line.decode("utf-8", "replace")
    return text.count("\ufffd") <= 1 and any(ord(letter) > 0x7F for letter in text.replace("\ufffd", ""))
