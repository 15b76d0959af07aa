"""Run by an interpreter with torch and a transformers: models that import flash_attn, on a CPU that transformers takes for a GPU.

Prints one JSON object: model → how far its results and gradients with flash-attn are from SDPA in float64, relative to the largest: in float32, but
ModernBERT in float16, since it would take its attention to bfloat16 otherwise.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from tests.adapter.computing import difference, prepare

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}
TEXT: dict[str, Any] = {**SIZES, "vocab_size": 64, "num_attention_heads": 4}


def llama(attention: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**TEXT, num_hidden_layers=2, num_key_value_heads=2, attn_implementation=attention))


def modernbert(attention: str) -> Any:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    shape = {"num_hidden_layers": 3, "local_attention": 8, "reference_compile": False}
    return ModernBertForMaskedLM(ModernBertConfig(**TEXT, **special, **shape, attn_implementation=attention))


def qwen_vision(attention: str) -> Any:
    from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl, modeling_qwen2_5_vl

    config = configuration_qwen2_5_vl.Qwen2_5_VLVisionConfig(
        **SIZES, depth=2, num_heads=4, out_hidden_size=64, fullatt_block_indexes=[1]
    )
    return modeling_qwen2_5_vl.Qwen2_5_VisionTransformerPretrainedModel._from_config(config, attn_implementation=attention)


def of_text(model: Any) -> Tensor:
    """Logits of the real tokens of a batch padded on the right."""
    lengths = torch.tensor([13, 24])
    mask = (torch.arange(24) < lengths[:, None]).long()
    logits: Tensor = model(input_ids=torch.randint(3, 64, mask.shape) * mask, attention_mask=mask).logits[mask.bool()]
    return logits


def of_pictures(model: Any) -> Tensor:
    """What becomes of two pictures' patches: two windows in the one, one in the other."""
    patches = torch.randn(8 * 16 + 4 * 4, 3 * 2 * 14 * 14, dtype=torch.float64).to(model.dtype)
    out = model(patches, grid_thw=torch.tensor([[1, 8, 16], [1, 4, 4]]))
    found: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return found


def run(make: Any, attention: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the result, and all gradients in one vector."""
    torch.manual_seed(0)
    model = make(attention).to(dtype).train()
    for parameter in model.parameters():  # attention must matter: the models' own start is all but flat
        parameter.data *= 6 if parameter.ndim == 2 else 1
    out = (of_pictures if make is qwen_vision else of_text)(model)
    torch.manual_seed(1)  # the stand-in for PyTorch's kernels draws numbers too
    out.backward(torch.randn(out.shape, dtype=torch.float64).to(dtype))
    return out, torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def main() -> None:
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: True
    torch.version.cuda = "12.8"
    from transformers.utils import is_flash_attn_2_available

    assert is_flash_attn_2_available()
    prepare()
    answer = {}
    for make, dtype in ((llama, torch.float32), (modernbert, torch.float16), (qwen_vision, torch.float32)):
        found, right = run(make, "flash_attention_2", dtype), run(make, "sdpa", torch.float64)
        answer[make.__name__] = [difference(a, b) for a, b in zip(found, right, strict=True)]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
