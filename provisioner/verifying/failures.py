"""What an error text means: the finding code of the class it belongs to.

The codes are those of ``doctor``; this stage adds ``stub-kernels``, ``wrong-numbers``, ``not-refused``, ``hang``, ``crashed``,
``illegal-memory-access``, ``cuda-out-of-memory``, ``package-missing`` and ``import-failed``. Texts were read in the sources of
torch 2.13, flash-attn 1.0.9 and 2.8.3.post2 and in issue reports (2026-11-24), those of a failing compiler in Triton 3.8's ``runtime/build.py``
and torch 2.14 (2026-11-27).
"""

from __future__ import annotations

import re

_CLASSES: tuple[tuple[str, str], ...] = (
    # Order matters: an earlier class explains a later one. The first that matches wins.
    ("stub-kernels", r"FATAL: FlashAttention requires building with sm version|requires building with sm version"),
    ("no-kernel-image", r"no kernel image is available|invalid device function|cudaErrorNoKernelImageForDevice"),
    (
        "driver-too-old",
        r"driver version is insufficient|NVIDIA driver on your system is too old|unsupported toolchain|PTX was compiled with",
    ),
    ("illegal-memory-access", r"illegal memory access|misaligned address|illegal instruction was encountered|device-side assert"),
    ("cuda-out-of-memory", r"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation|OutOfMemoryError"),
    ("libcudart-missing", r"lib(cudart|cublas|c10_cuda|torch_cuda)[\w.]*\.so[\d.]*: cannot open shared object"),
    ("libcudnn-missing", r"libcudnn[\w]*\.so[\d.]*: cannot open shared object|Could not load library libcudnn"),
    ("glibc-too-old", r"version [`']GLIBC_[\d.]+' not found"),
    (
        "undefined-symbol-abi-mismatch",
        r"undefined symbol: |schema_\.has_value\(\) INTERNAL ASSERT|version [`'](?:GLIBCXX|CXXABI)_",
    ),
    ("xformers-flash-attn-range", r"Requires Flash-Attention version >=\S+ but got"),
    ("arch-unsupported", r"only supports Ampere GPUs or newer|requires compute capability|only supports? \S+ GPUs"),
    (
        "cuda-unavailable",
        r"Found no NVIDIA driver|No CUDA GPUs are available|CUDA (driver )?initializ|not compiled with CUDA enabled",
    ),
    ("no-c-compiler", r"Failed to find C(\+\+)? compiler|InvalidCxxCompiler"),
    ("c-compiler-fails", r"Command '\['[^']*\b(cc|c\+\+|gcc|g\+\+|clang|clang\+\+)'.* returned non-zero exit status"),
    ("cuda-error", r"CUDA error|CUDA kernel errors|cudaError|CUBLAS_STATUS"),
)

_PATTERNS = tuple((code, re.compile(pattern, re.IGNORECASE)) for code, pattern in _CLASSES)

MEANING = {
    "stub-kernels": "the kernels of this build are empty for this GPU; install or build one for its architecture (provision plan --explain)",
    "no-kernel-image": "this build has no kernels for this GPU; install or build one for its architecture (provision plan --explain)",
    "driver-too-old": "the driver is older than the CUDA of this build; renew it, or take a torch for an older CUDA",
    "illegal-memory-access": "a kernel reads or writes memory that is not its own; this build must not be used",
    "cuda-out-of-memory": "the GPU's memory is full, of others' work perhaps (provision doctor --memory); the checks themselves need little",
    "libcudart-missing": "built for another CUDA than that of this torch",
    "libcudnn-missing": "built for another cuDNN than the installed one",
    "glibc-too-old": "built on a newer system than this one",
    "undefined-symbol-abi-mismatch": "built for another torch or C++ ABI than the installed one; take the wheel for this torch, or build it",
    "xformers-flash-attn-range": "xformers refuses this flash-attn; one of the two must change",
    "arch-unsupported": "this GPU is older than what the package is written for (provision plan says what runs on it)",
    "no-c-compiler": "Triton compiles its kernels' launchers here and finds no C compiler; install one, or correct CC",
    "c-compiler-fails": "Triton compiles its kernels' launchers here; Python's headers or libc's are missing (provision doctor says which)",
    "cuda-error": "the device refused a call; the message says why, and other processes may have left it so (nvidia-smi)",
    "torch-import-broken": "torch itself does not import, so nothing else can; put it in again",
    "import-failed": "it is installed and does not import; its own message says why",
    "call-failed": "the call raised what is neither a refusal nor a fault of the device; its own message says why",
    "wrong-numbers": "it computes, and not what attention is; training with it goes wrong silently, so this build must not be used",
    "not-refused": "it computes what it does not claim to have; whether that is right was never promised",
    "hang": "no return within the limit: --check-timeout gives one check more, --timeout all of a process",
    "crashed": "the call took the process down with it",
    "package-missing": "the environment has no such package",
    "metadata-missing": "a package is half installed or half removed; put it in again",
    "malformed-binary": "a compiled module is cut off or no ELF file; put its package in again",
    "cuda-unavailable": "torch finds no GPU here: a driver that is missing or too old, a CPU build of torch, or CUDA_VISIBLE_DEVICES",
}
"""What a code means and what helps, in a sentence; docs/verification.md lists all codes."""

REFUSING = frozenset({"RuntimeError", "ValueError", "NotImplementedError", "AssertionError"})
"""The exceptions that say no. A TypeError is not among them: it would mean that the function was called wrongly."""

_REFUSAL_CODES = frozenset({None, "arch-unsupported"})


def classify(text: str) -> str | None:
    """Return the code of the first class whose text occurs in ``text``, or None."""
    return next((code for code, pattern in _PATTERNS if pattern.search(text)), None)


def is_refusal(kind: str, text: str) -> bool:
    """Say whether an exception of type ``kind`` is a build's deliberate no, rather than a fault of device or library."""
    return kind in REFUSING and classify(text) in _REFUSAL_CODES


def of_import(module: str, kind: str, text: str) -> str:
    """Return the code of a failed import of ``module``."""
    if code := classify(text):
        return code
    if kind == "ModuleNotFoundError" and f"'{module.partition('.')[0]}'" in text:
        return "package-missing"
    return "torch-import-broken" if module == "torch" else "import-failed"
