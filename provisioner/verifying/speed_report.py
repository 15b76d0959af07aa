"""What the times say: the best of torch's backends at each length, and a warning where flash-attn is slower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Timing = Mapping[str, "str | float | int"]

TOLERANCE = 1.05
"""Medians of short runs differ by a few percent from run to run; less than this is not called slower."""


@dataclass(frozen=True, slots=True)
class Row:
    """One length and pass on one device: milliseconds by implementation."""

    device: int | None
    seqlen: int
    direction: str
    times: dict[str, float]
    tflops: dict[str, float]

    @property
    def best_sdpa(self) -> str | None:
        """The fastest of torch's backends."""
        return min((name for name in self.times if name.startswith("sdpa")), key=lambda name: self.times[name], default=None)


def rows(timings: Iterable[Timing]) -> tuple[Row, ...]:
    """Return the timings as rows in the order measured: per device, length and pass."""
    found: dict[tuple[object, object, object], Row] = {}
    for timing in timings:
        device, seqlen, direction = timing.get("device"), timing["seqlen"], timing["pass"]
        row = found.setdefault(
            (device, seqlen, direction), Row(None if device is None else int(device), int(seqlen), str(direction), {}, {})
        )
        row.times[str(timing["implementation"])] = float(timing["ms"])
        row.tflops[str(timing["implementation"])] = float(timing["tflops"])
    return tuple(found.values())


def slower_than_sdpa(timings: Iterable[Timing]) -> tuple[str, ...]:
    """Return one sentence for each flash-attn, pass and device that torch's best backend beats somewhere."""
    behind: dict[tuple[int | None, str, str], list[tuple[float, int, str]]] = {}
    counts: dict[tuple[int | None, str, str], int] = {}
    for row in rows(timings):
        best = row.best_sdpa
        for name, milliseconds in row.times.items():
            if best is None or name.startswith("sdpa"):
                continue
            key = (row.device, row.direction, name)
            counts[key] = counts.get(key, 0) + 1
            if milliseconds > row.times[best] * TOLERANCE:
                behind.setdefault(key, []).append((milliseconds / row.times[best], row.seqlen, best))
    return tuple(_sentence(key, cases, counts[key]) for key, cases in behind.items())


def _sentence(key: tuple[int | None, str, str], cases: list[tuple[float, int, str]], count: int) -> str:
    device, direction, name = key
    ratio, seqlen, best = max(cases)
    where = "" if device is None else f" on GPU {device}"
    return (
        f"{name} is slower than torch's own attention{where} ({direction}) at {len(cases)} of {count} lengths: "
        f"{ratio:.2f} times {best}'s time at {seqlen} tokens"
    )
