"""Training steps of a tiny random Llama, through Unsloth or transformers alone; the model comes from a config, nothing is downloaded."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 256
HEADS, KEY_HEADS = 4, 2


def shape(head_dim: int) -> dict[str, int]:
    """Return the config of a Llama of two layers with grouped heads: the smallest that takes the kernels a real one takes."""
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HEADS * head_dim,
        "intermediate_size": 2 * HEADS * head_dim,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": head_dim,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }


def claimed_head_dim(expect: dict[str, Any]) -> int:
    """Return a head dim that the build goes backward with: 64, or the one next to it."""
    dims = expect["backward_head_dims"] or [64]
    return int(min(dims, key=lambda dim: abs(dim - 64)))


def train_with_unsloth(head_dim: int) -> dict[str, Any]:
    """Load the model through Unsloth, add LoRA and take three steps; ``detail`` says losses and attention. Raise as `take_steps` does."""
    from unsloth import FastLanguageModel  # first: it patches what the next lines load

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_llama(Path(folder), head_dim)
        model, _ = FastLanguageModel.from_pretrained(
            folder, max_seq_length=256, load_in_4bit=False, dtype=None, local_files_only=True, use_exact_model_name=True
        )
    model = FastLanguageModel.get_peft_model(model, r=8, lora_alpha=16, lora_dropout=0, random_state=1)
    FastLanguageModel.for_training(model)
    return take_steps(model, model.dtype if model.dtype in (torch.float16, torch.bfloat16) else None)


def train_with_transformers(attention: str, device: str, head_dim: int, dtype: str) -> dict[str, Any]:
    """Take three full steps with transformers' own Llama and ``attention`` (its name there). Raise as `take_steps` does."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(**shape(head_dim))
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    model = LlamaForCausalLM._from_config(config, attn_implementation=attention).to(device, torch.float32)
    return take_steps(model.train(), half, rate=1e-3)


def take_steps(model: Any, half: Any, *, steps: int = 3, rate: float = 1e-2) -> dict[str, Any]:
    """Train ``model`` on one fixed batch, computing in ``half`` where it is not None, and return the losses and the attention it used.

    What is trained is kept in float32: AdamW's epsilon is zero in float16.
    Raise `RuntimeError` when a loss or gradient is not finite, when no gradient reaches the attention's projections, or when the loss
    does not fall.
    """
    device = next(model.parameters()).device
    tokens = torch.randint(4, VOCABULARY, (2, 96), generator=torch.Generator().manual_seed(1)).to(device)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=rate)
    losses = []
    for _ in range(steps):
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        losses.append(float(loss.detach()))
        _check_gradients(trained)
        optimizer.step()
        optimizer.zero_grad()
    if not all(map(math.isfinite, losses)) or losses[-1] >= losses[0]:
        raise RuntimeError(f"training does not learn: losses {losses}")
    shown = " → ".join(f"{loss:.4f}" for loss in losses)
    return {"detail": f"loss {shown}, {len(trained)} gradients finite, attention {model.config._attn_implementation}"}


def _check_gradients(trained: dict[str, Any]) -> None:
    """Raise unless all gradients are finite and the query projections, which only attention's backward reaches, have some."""
    given = {name: parameter.grad for name, parameter in trained.items() if parameter.grad is not None}
    if broken := [name for name, grad in given.items() if not bool(torch.isfinite(grad).all())]:
        raise RuntimeError(f"{len(broken)} gradients are not finite, first: {broken[0]}")
    if not any("q_proj" in name and bool(grad.any()) for name, grad in given.items()):
        raise RuntimeError("no gradient reached the query projections: attention's backward did nothing")


def write_tiny_llama(folder: Path, head_dim: int) -> None:
    """Write a random two-layer Llama and a word-level tokenizer, as a model repository holds them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, **{f"w{n}": n for n in range(4, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**shape(head_dim))).save_pretrained(folder)
