"""Candidates for findings, and the choice of the one cause that explains the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from provisioner.diagnosing.findings import Finding, Fix, Severity


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that was seen, not yet weighed; ``rank`` says how close to a root cause it is (lower is closer)."""

    code: str
    rank: int
    severity: Severity
    title: str
    evidence: tuple[str, ...]
    fix: Fix | None = None
    source: str | None = None


_BUILD = (
    "cuda-home-missing",
    "cuda-headers-incomplete",
    "nvcc-too-old",
    "nvcc-arch-unknown",
    "nvcc-torch-cuda-mismatch",
    "no-torch-build-isolation",
    "hang-ninja-missing",
    "wheel-404-source-build",
    "build-oom-killed",
    "ptxas-crash",
)
_LOADING = ("undefined-symbol-abi-mismatch", "libcudart-missing", "dll-load-failed", "flash-attn-no-kernels")
_GPU = ("cuda-unavailable", "no-gpu", "driver-not-running", "no-kernel-image", "wsl-libcuda-not-found", "torch-lacks-gpu-arch")
_IMPORTS = (
    "torch-import-broken",
    "import-fails",
    "import-hangs",
    "packages-mismatched",
    "libcudnn-missing",
    "libcudart-missing",
    "missing-dependency",
)
_KERNELS = ("arch-unsupported", "no-kernel-image", "fa3-on-blackwell", "torch-lacks-gpu-arch", "unsloth-flash-attn-broken")

CONSEQUENCES: dict[str, tuple[str, ...]] = {
    "rocm-not-cuda": (*_BUILD, *_LOADING, *_GPU, *_KERNELS),
    "no-gpu": (*_GPU, "cuda-home-missing"),
    "musl-unsupported": ("torch-import-broken", "wheel-tag-mismatch", *_LOADING),
    "driver-lib-mismatch": _GPU,
    "driver-not-running": _GPU,
    "driver-too-old": ("cuda-unavailable", "no-kernel-image"),
    "wsl-libcuda-not-found": ("cuda-unavailable", "driver-not-running", "libcudart-missing"),
    "torch-lacks-gpu-arch": ("no-kernel-image", "unsloth-flash-attn-broken"),
    "cuda-unavailable": ("cuda-home-missing",),
    **dict.fromkeys(
        ("no-visible-device", "libcuda-not-found", "libcuda-is-a-stub", "wsl-linux-driver", "cuda-compat-library"),
        ("cuda-unavailable",),
    ),
    "disk-or-tmp-full": ("package-incomplete", "package-without-record", "interrupted-install", *_IMPORTS),
    **dict.fromkeys(
        ("package-incomplete", "package-without-record", "duplicate-package", "numpy-abi-mismatch"),
        ("interrupted-install", "flash-attn-no-kernels", "requirement-unmet", "cuda-unavailable", *_IMPORTS),
    ),
    **dict.fromkeys(
        ("unsloth-pin-violated", "torchvision-torch-mismatch", "torchaudio-torch-mismatch"),
        ("xformers-torch-mismatch", "requirement-unmet", *_IMPORTS),
    ),
    "stale-build-lock": ("import-hangs",),
    "no-torch-build-isolation": ("wheel-404-source-build",),
    "hang-ninja-missing": ("wheel-404-source-build",),
    "network-blocked": ("wheel-404-source-build",),
    **dict.fromkeys(
        ("memory-fragmented", "memory-held-by-others", "memory-limited-elsewhere", "one-huge-tensor", "memory-really-used"),
        ("cuda-out-of-memory",),
    ),
    "glibc-too-old": ("unsloth-flash-attn-broken",),
    "undefined-symbol-abi-mismatch": ("unsloth-flash-attn-broken",),
    "libcudart-missing": ("unsloth-flash-attn-broken",),
    **{
        code: ("wheel-404-source-build", "hang-ninja-missing")
        for code in _BUILD
        if not code.startswith(("wheel", "hang", "no-torch"))
    },
}
"""What follows from what. An ``arch-unsupported-*`` explains all that concerns kernels and builds."""


def resolve(candidates: Iterable[Candidate]) -> tuple[Finding, ...]:
    """Return the findings, the cause first: at most one is primary, it is an error, and it names what it explains.

    Of several candidates with one code the best ranked stays, with the evidence of all.
    """
    merged: dict[str, Candidate] = {}
    for one in sorted(candidates, key=lambda candidate: candidate.rank):
        if (known := merged.get(one.code)) is not None:
            merged[one.code] = replace(known, evidence=tuple(dict.fromkeys(known.evidence + one.evidence))[:6])
        else:
            merged[one.code] = one
    errors = [one for one in merged.values() if one.severity is Severity.ERROR]
    cause = errors[0] if errors else None
    order = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    ranked = sorted(merged.values(), key=lambda one: (one is not cause, order[one.severity], one.rank))
    return tuple(_finding(one, one is cause, tuple(merged)) for one in ranked)


def _finding(one: Candidate, primary: bool, codes: tuple[str, ...]) -> Finding:
    follows = consequences_of(one.code)
    explains = tuple(code for code in codes if code in follows and code != one.code) if primary else ()
    return Finding(one.code, one.severity, primary, one.title, one.evidence, one.fix, explains, one.source)


def consequences_of(code: str) -> tuple[str, ...]:
    """Return the codes that ``code`` explains."""
    if code.startswith("arch-unsupported-"):
        return (*_KERNELS, *_BUILD, *_LOADING)
    return CONSEQUENCES.get(code, ())
