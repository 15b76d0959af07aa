"""One training step of a tiny random Llama through Unsloth; the model comes from a config on disk, nothing is downloaded."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 256


def train_one_step() -> dict[str, Any]:
    """Load the model through Unsloth, add LoRA, do two optimizer steps on one batch; raise unless the loss is finite and falls."""
    from unsloth import FastLanguageModel  # first: it patches what the next lines load

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_llama(Path(folder))
        model, _ = FastLanguageModel.from_pretrained(
            folder, max_seq_length=256, load_in_4bit=False, dtype=None, local_files_only=True, use_exact_model_name=True
        )
    model = FastLanguageModel.get_peft_model(model, r=8, lora_alpha=16, lora_dropout=0, random_state=1)
    FastLanguageModel.for_training(model)
    return take_steps(model)


def take_steps(model: Any, *, steps: int = 3) -> dict[str, Any]:
    """Train ``model`` on one fixed batch and return the losses; raise when they are not finite or do not fall."""
    device = next(model.parameters()).device
    tokens = torch.randint(4, VOCABULARY, (2, 96), generator=torch.Generator().manual_seed(1)).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    if not all(map(math.isfinite, losses)) or losses[-1] >= losses[0]:
        raise RuntimeError(f"training does not learn: losses {losses}")
    return {"detail": "loss " + " → ".join(f"{loss:.4f}" for loss in losses)}


def write_tiny_llama(folder: Path) -> None:
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
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
