"""Fourth stage, one process per GPU and only where Unsloth is installed: which attention it takes, and training steps through it.

A process of its own, since Unsloth replaces parts of transformers and must be imported before it.
"""

from __future__ import annotations

import functools
from typing import Any

from provisioner.verifying.child.protocol import Reporter


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Import Unsloth first of all, ask it, train."""
    if reporter.check("import unsloth on this GPU", "import unsloth", lambda: {"detail": _import()})["status"] != "returned":
        return
    from provisioner.verifying.child.libraries import SKIPPED, ask_library
    from provisioner.verifying.child.training import claimed_head_dim, train_with_unsloth

    ask_library("unsloth", ask_unsloth, reporter)
    if "flash_attention_2" in job["skip"]:
        reporter.skip("unsloth: training steps", SKIPPED)
        return
    body = functools.partial(train_with_unsloth, claimed_head_dim(job["expect"]))
    reporter.check("unsloth: training steps", "FastLanguageModel", body)


def _import() -> str:
    import unsloth

    return str(unsloth.__version__)


def ask_unsloth() -> str:
    """Return what Unsloth's own selection gives for padded and for packed batches; older releases tell only what they found."""
    try:
        from unsloth.utils.attention_dispatch import select_attention_backend
    except ImportError:
        from unsloth.models import _utils

        return "flash-attn" if _utils.HAS_FLASH_ATTENTION else "xformers or sdpa"
    return f"{select_attention_backend(False)}; packed: {select_attention_backend(True)}"
