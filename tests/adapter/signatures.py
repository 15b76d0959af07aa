"""What the functions of a flash-attn are called with, read from its source without importing it."""

from __future__ import annotations

import ast

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
)


def signatures(*sources: str) -> dict[str, list[str]]:
    """Return function → parameters in order, as ``name`` or ``name=default``."""
    found = {}
    for source in sources:
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS:
                found[node.name] = _parameters(node.args)
    return found


def _parameters(arguments: ast.arguments) -> list[str]:
    assert not any((arguments.kwonlyargs, arguments.vararg, arguments.kwarg)), "upstream's functions have none"
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    defaults = [None] * (len(names) - len(arguments.defaults)) + [ast.unparse(value) for value in arguments.defaults]
    return [name if default is None else f"{name}={default}" for name, default in zip(names, defaults, strict=True)]
