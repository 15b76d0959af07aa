"""The receipt: what verification ran, on what, and with which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from provisioner.compat import StrEnum


class Outcome(StrEnum):
    """The result of one check. ``expected-refusal`` is a pass: the build said no to what it does not have."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_REFUSAL = "expected-refusal"


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``error`` and ``limit`` are relative errors against float64; ``code`` is a finding code when it failed."""

    name: str
    outcome: Outcome
    detail: str = ""
    code: str | None = None
    error: float | None = None
    limit: float | None = None
    seconds: float | None = None
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of an environment. ``made_at`` is UTC, ISO 8601; ``versions`` maps distribution names to versions.

    ``warnings`` are sentences about what works but is not as good as it could be.

    ``attention`` maps a library (``unsloth``, ``xformers``, ``transformers``, ``torch``) to the attention path that it takes here.
    """

    made_at: str
    mode: str
    versions: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    timings: tuple[dict[str, str | float | int], ...] = ()
    attention: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True when no check failed."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)
