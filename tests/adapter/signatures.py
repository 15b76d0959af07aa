"""What the functions of a flash-attn are called with, read from its source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

FUNCTIONS = (
    "flash_attn_func",
    "flash_attn_varlen_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_with_kvcache",
    "_flash_attn_forward",
    "_flash_attn_varlen_forward",
    "_flash_attn_backward",
    "_flash_attn_varlen_backward",
    "unpad_input",
    "unpad_input_for_concatenated_sequences",
    "pad_input",
    "apply_rotary",
    "apply_rotary_emb",
    "apply_rotary_emb_torch",
    "apply_rotary_emb_qkv_",
    "apply_rotary_emb_kv_",
    "RotaryEmbedding._compute_inv_freq",
    "RotaryEmbedding._update_cos_sin_cache",
    "RotaryEmbedding.forward",
)


def signatures(*sources: str) -> dict[str, list[str]]:
    """Return function → parameters in order, as ``name`` or ``name=default``."""
    return {
        name: _parameters(node.args) for source in sources for name, node in _functions(ast.parse(source)) if name in FUNCTIONS
    }


def _functions(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a module, and as ``class.function`` those of its classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{name}", method) for name, method in _functions(node))


def _parameters(arguments: ast.arguments) -> list[str]:
    assert not any((arguments.kwonlyargs, arguments.vararg, arguments.kwarg)), "upstream's functions have none"
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    defaults = [None] * (len(names) - len(arguments.defaults)) + [ast.unparse(value) for value in arguments.defaults]
    return [name if default is None else f"{name}={default}" for name, default in zip(names, defaults, strict=True)]
