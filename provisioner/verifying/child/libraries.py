"""Third stage, one process per GPU: which attention each library takes here, by asking it, and one training step of Unsloth."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from provisioner.verifying.child.protocol import Reporter

HEAD_DIM, HEADS, TOKENS = 64, 8, 256


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Ask torch, xformers, transformers and Unsloth, in this order: Unsloth replaces parts of the others."""
    device = job["device"]
    askers = {"torch": ask_torch, "xformers": ask_xformers, "transformers": ask_transformers, "unsloth": ask_unsloth}
    for library, ask in askers.items():
        if importlib.util.find_spec(library) is None or (library == "unsloth" and device != "cuda"):
            continue
        outcome = reporter.check(f"attention of {library}", library, lambda ask=ask: {"detail": ask(device)})  # type: ignore[misc]
        if outcome["status"] == "returned":
            reporter.emit("attention", library=library, path=outcome["detail"])
    if device == "cuda" and importlib.util.find_spec("unsloth") is not None:
        from provisioner.verifying.child.training import train_one_step

        reporter.check("unsloth: one training step", "FastLanguageModel", train_one_step)


def _tensors(device: str) -> list[Any]:
    """Queries, keys and values as training would hold them: ``(batch, heads, tokens, head dim)``."""
    dtype = torch.float16 if device == "cuda" and torch.cuda.get_device_capability()[0] < 8 else torch.bfloat16
    return [torch.zeros(1, HEADS, TOKENS, HEAD_DIM, device=device, dtype=dtype, requires_grad=True) for _ in "qkv"]


def ask_torch(device: str) -> str:
    """Return the backend that ``scaled_dot_product_attention`` takes for a causal training call."""
    from torch.nn.attention import SDPBackend

    choice = torch._fused_sdp_choice(*_tensors(device), None, 0.0, True)
    names = {int(value.value if hasattr(value, "value") else value): name for name, value in SDPBackend.__members__.items()}
    return f"sdpa {names.get(choice, str(choice)).lower()}"


def ask_xformers(device: str) -> str:
    """Return the names of the forward and backward operators that xformers dispatches to, ``none (…)`` where it has none."""
    from xformers.ops import fmha

    q, k, v = (x.transpose(1, 2) for x in _tensors(device))
    inputs = fmha.Inputs(query=q, key=k, value=v, attn_bias=fmha.attn_bias.LowerTriangularMask())
    try:
        forward = fmha.dispatch._dispatch_fw(inputs, needs_gradient=True)
        backward = fmha.dispatch._dispatch_bw(inputs, varlen_lse_packed=None)
    except NotImplementedError as error:
        return f"none ({str(error).strip().splitlines()[0][:80]})"
    return f"{forward.NAME}, {backward.NAME}"


def ask_transformers(device: str) -> str:
    """Return what a small Llama takes by itself, and what it takes when flash-attn is asked for."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def taken(**options: Any) -> str:
        config = LlamaConfig(
            hidden_size=128,
            intermediate_size=128,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=64,
        )
        with torch.device("meta"):
            model = LlamaForCausalLM._from_config(config, **options)
        return str(model.config._attn_implementation)

    try:
        wanted = taken(attn_implementation="flash_attention_2")
    except (ImportError, ValueError, RuntimeError) as error:
        wanted = f"not available ({str(error).strip().splitlines()[0][:120]})"
    return f"{taken()} by itself; flash_attention_2 when asked: {wanted}"


def ask_unsloth(device: str) -> str:
    """Return what Unsloth's own selection gives for padded and for packed batches; older releases tell only what they found."""
    import unsloth  # noqa: F401  (its import patches the others and must come first)

    try:
        from unsloth.utils.attention_dispatch import select_attention_backend
    except ImportError:
        from unsloth.models import _utils

        return "flash-attn" if _utils.HAS_FLASH_ATTENTION else "xformers or sdpa"
    return f"{select_attention_backend(False)}; packed: {select_attention_backend(True)}"
