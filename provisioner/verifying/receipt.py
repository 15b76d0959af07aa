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

    @property
    def told(self) -> str:
        """What the check found, in words where it measured a deviation."""
        if self.error is None or self.limit is None:
            return self.detail
        if self.detail.isidentifier():  # a tensor's name
            return f"{self.detail} is off by {self.error:.1e} of its largest value, {self.limit:.1e} is allowed"
        return f"{self.detail} (off by {self.error:.1e}, {self.limit:.1e} is allowed)"


@dataclass(frozen=True, slots=True)
class Stage:
    """One child: what it did, for which GPU, and its seconds; ``loading`` are those until its first check (Python, torch, the driver)."""

    name: str
    seconds: float
    loading: float
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of an environment. ``made_at`` is UTC, ISO 8601; ``versions`` maps distribution names to versions, ``digests`` extension
    files to their sha256; ``machine`` holds ``python``, ``system``, ``libc`` and ``driver`` where known, nothing that names the machine.

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
    machine: dict[str, str] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()

    @property
    def passed(self) -> bool:
        """True when no check failed."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)

    @property
    def computed(self) -> bool:
        """True when attention was really computed, and not only imported."""
        return any(check.error is not None for check in self.checks)

    @property
    def verdict(self) -> str:
        """``no`` when a check failed, ``yes`` when attention was computed and right, else ``imports only``."""
        if not self.passed:
            return "no"
        return "yes" if self.computed else "imports only"

    @property
    def summary(self) -> str:
        """How many checks it holds and what they took; that nothing was computed where that is so."""
        ran = f"{len(self.checks)} checks in {self.seconds:.0f} s"
        return ran if self.computed else f"{ran}, imports only: no attention was computed"

    @property
    def seconds_after_imports(self) -> float:
        """The seconds that were neither loading nor spent in checks that import a package."""
        loading = sum(stage.loading for stage in self.stages)
        imports = sum(check.seconds or 0.0 for check in self.checks if check.name.startswith("import "))
        return max(0.0, self.seconds - loading - imports)
