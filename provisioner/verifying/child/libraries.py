"""Third stage, one process per GPU: which attention each library takes here, by asking it, and a few training steps."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from typing import Any

import torch

from provisioner.verifying.child.imports import import_module, is_there
from provisioner.verifying.child.protocol import Reporter

HEAD_DIM, HEADS, TOKENS = 64, 8, 256

SLOW = {"xformers": "xformers.ops.fmha", "transformers": "transformers.models.llama.modeling_llama"}
"""The modules that an answer loads; 2 and 4 s on an H100 (2026-11-27)."""

SKIPPED = "flash-attn's own checks failed; a training step over it would tell nothing more"


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Ask each library that is there, then train with each attention that transformers has."""
    device = job["device"]
    askers = {"torch": ask_torch, "xformers": ask_xformers, "transformers": ask_transformers}
    if job["expect"]["adapter"]:
        askers = {"flash_attn": ask_adapter, **askers}
    usable = {library: ask for library, ask in askers.items() if is_there(library) and _load(library, reporter)}
    for library, ask in usable.items():
        ask_library(library, functools.partial(ask, device), reporter)
    if "transformers" in usable:
        _train(job, reporter)


def _load(library: str, reporter: Reporter) -> bool:
    """Import what is slow to import as a check of its own, and say whether that went well; the questions then cost next to nothing."""
    module = SLOW.get(library)
    if module is None:
        return True
    outcome = reporter.check(f"import {library} on this GPU", f"import {module}", lambda: import_module(module))
    return bool(outcome["status"] == "returned")


def ask_library(library: str, ask: Callable[[], str], reporter: Reporter) -> None:
    """Ask, as a check of its own, and report the answer as the attention that ``library`` takes."""
    outcome = reporter.check(f"attention of {library}", library, lambda: {"detail": ask()})
    if outcome["status"] == "returned":
        reporter.emit("attention", library=library, path=outcome["detail"])


def _train(job: dict[str, Any], reporter: Reporter) -> None:
    """Train with each attention that transformers has here; over flash-attn only what the build claims and what did not fail before."""
    from provisioner.verifying.child.training import claimed_head_dim, train_with_transformers

    device, expect = job["device"], job["expect"]
    half = "bf16" if "bf16" in expect["dtypes"] else "fp16"
    kinds = ["sdpa"]
    if device == "cuda" and "backward" in expect["features"] and is_flash_attention_2_usable():
        kinds.append("flash_attention_2")
    for attention in kinds:
        name = f"transformers: training steps with {attention}"
        if attention in job["skip"]:
            reporter.skip(name, SKIPPED)
            continue
        body = functools.partial(train_with_transformers, attention, device, claimed_head_dim(expect), half)
        reporter.check(name, "LlamaForCausalLM", body)


def is_flash_attention_2_usable() -> bool:
    """Say whether transformers itself takes the installed flash-attn."""
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


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


def ask_adapter(device: str) -> str:
    """Return which kernels an adapter's functions take here, by head dim; forward and backward, causal."""
    import flash_attn

    q = _tensors(device)[0]
    chosen = [(dim, flash_attn.kernels(dtype=q.dtype, head_dim=dim, device=device)) for dim in (64, 128)]
    return ", ".join(f"{name} (head dim {dim})" for dim, name in chosen)


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
        wanted = f"not available ({_shortened(str(error))})"
    return f"{taken()} by itself; flash_attention_2 when asked: {wanted}"


def _shortened(text: str) -> str:
    """Return the first line of transformers' refusal, without its preamble ("… due to the following error: ")."""
    line = (text.strip().splitlines() or [""])[0]
    return textwrap.shorten(line.rpartition("following error: ")[2], 120, placeholder=" …")
