"""Fourth stage, one process per GPU and only where Unsloth is installed: which attention it takes, and training steps through it.

A process of its own, since Unsloth replaces parts of transformers and must be imported before it.
"""

from __future__ import annotations

import functools
import gc
import os
from typing import Any

from provisioner.verifying.child.imports import import_module
from provisioner.verifying.child.protocol import Reporter

COMPILE_SWITCH = "UNSLOTH_COMPILE_DISABLE"
"""Unsloth's own switch. Left off, torch.compile traces its loss: three steps took 16 s on an H100, with it 4 (2026-11-27); its Triton
kernels are compiled all the same."""


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Import Unsloth first of all, ask it, train: as users do in full, in quick with its loss not compiled, and torch.compile tried apart."""
    quick = job["mode"] == "quick"
    if quick:
        os.environ.setdefault(COMPILE_SWITCH, "1")
    if reporter.check("import unsloth on this GPU", "import unsloth", lambda: import_module("unsloth"))["status"] != "returned":
        return
    gc.freeze()  # Unsloth collects nine times while it loads a model; each time over all that its import left: 0.4 s (H100, 2026-11-27)
    from provisioner.verifying.child.libraries import SKIPPED, ask_library
    from provisioner.verifying.child.training import claimed_head_dim, train_with_unsloth

    ask_library("unsloth", ask_unsloth, reporter)
    if quick:
        reporter.check("torch.compile of a function", "torch.compile", compile_function)
    if "flash_attention_2" in job["skip"]:
        reporter.skip("unsloth: training steps", SKIPPED)
        return
    body = functools.partial(train_with_unsloth, claimed_head_dim(job["expect"]))
    reporter.check("unsloth: training steps", "FastLanguageModel", body)


def ask_unsloth() -> str:
    """Return what Unsloth's own selection gives for padded and for packed batches; older releases tell only what they found."""
    try:
        from unsloth.utils.attention_dispatch import select_attention_backend
    except ImportError:
        from unsloth.models import _utils

        return "flash-attn" if _utils.HAS_FLASH_ATTENTION else "xformers or sdpa"
    return f"{select_attention_backend(False)}; packed: {select_attention_backend(True)}"


def compile_function() -> dict[str, Any]:
    """Compile a small function as Unsloth's are, and compare it with itself. Raise `RuntimeError` where the two differ.

    What is missing for it (a C compiler, Python's headers, a Triton that fits) shows in seconds.
    """
    import torch

    def gated(x: Any) -> Any:
        return torch.nn.functional.silu(x) * x.sum(-1, keepdim=True)

    x = torch.linspace(-2, 2, 64 * 300, device="cuda").reshape(64, 300)
    error = float((torch.compile(gated)(x) - gated(x)).abs().max() / gated(x).abs().max())
    if not error <= 1e-5:
        raise RuntimeError(f"the compiled function is off by {error:.1e} of its largest value")
    return {"detail": f"off by {error:.1e}"}
