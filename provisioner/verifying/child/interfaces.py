"""The functions that an installed attention really has, seen by one shape: packed inputs in, packed output out.

Which parameters a function takes is read from its signature, never assumed from a version number.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from provisioner.verifying.child.cases import Case


@dataclass(frozen=True)
class Interface:
    """A family of functions. ``functions`` maps a kind of call (`Case.call`) to the function; ``generation`` is 0 outside flash-attn.

    ``align_right`` says how masks lie when there are more keys than queries; ``top_names`` how its functions are called in messages.
    """

    family: str
    version: str
    generation: int
    functions: dict[str, Callable[..., Any]]
    align_right: bool = True
    grouped: bool = True
    calls: dict[str, set[str]] = field(default_factory=dict)

    def named(self, call: str) -> str:
        """The function's own name, as one would look it up."""
        function = self.functions[call]
        return f"{function.__module__}.{function.__qualname__}"


def find_interfaces(attention: str) -> list[Interface]:
    """Return what is there to verify: for ``flash-attn`` every generation that is installed, else the one named (``sdpa``, ``xformers``)."""
    if attention == "sdpa":
        return [_interface("sdpa", torch.__version__, 0, {"func": sdpa}, align_right=False)]
    if attention == "xformers":
        xformers = importlib.import_module("xformers")
        return [_interface("xformers", xformers.__version__, 0, {"func": xformers_attention}, grouped=False)]
    return [found for look in (_flash_attn, _flash_attn_3, _flash_attn_4) if (found := look()) is not None]


def _interface(
    family: str, version: str, generation: int, functions: dict[str, Any], *, align_right: bool = True, grouped: bool = True
) -> Interface:
    present = {call: function for call, function in functions.items() if function is not None}
    calls = {call: _parameters(function) for call, function in present.items()}
    return Interface(family, version, generation, present, align_right, grouped, calls)


def _parameters(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {*parameters, "window_size", "softcap", "alibi_slopes", "dropout_p", "block_table", "num_splits"}
    return set(parameters)


def _flash_attn() -> Interface | None:
    if importlib.util.find_spec("flash_attn") is None:
        return None
    package = importlib.import_module("flash_attn")
    version = str(getattr(package, "__version__", ""))
    kinds = ("func", "varlen_func", "qkvpacked_func", "kvpacked_func", "varlen_qkvpacked_func", "varlen_kvpacked_func")
    if hasattr(package, "flash_attn_varlen_func"):
        functions = {kind.removesuffix("_func"): getattr(package, f"flash_attn_{kind}", None) for kind in kinds}
        functions["kvcache"] = getattr(package, "flash_attn_with_kvcache", None)
        return _interface("flash-attn 2", version, 2, functions, align_right=not version.startswith("2.0."))
    with suppress(ImportError):
        module = importlib.import_module("flash_attn.flash_attn_interface")
        functions = {
            call: getattr(module, f"flash_attn_unpadded_{name}", None)
            for call, name in (("varlen", "func"), ("varlen_qkvpacked", "qkvpacked_func"), ("varlen_kvpacked", "kvpacked_func"))
        }
        if functions["varlen"] is not None:
            return _interface("flash-attn 1", version, 1, functions, align_right=False, grouped=False)
    return None


def _flash_attn_3() -> Interface | None:
    if importlib.util.find_spec("flash_attn_interface") is None:
        return None
    module = importlib.import_module("flash_attn_interface")
    functions = {"func": module.flash_attn_func, "varlen": getattr(module, "flash_attn_varlen_func", None)}
    return _interface("flash-attn 3", str(getattr(module, "__version__", "")), 3, functions)


def _flash_attn_4() -> Interface | None:
    with suppress(ImportError):
        module = importlib.import_module("flash_attn.cute")
        functions = {"func": module.flash_attn_func, "varlen": getattr(module, "flash_attn_varlen_func", None)}
        return _interface("flash-attn 4", str(getattr(module, "__version__", "")), 4, functions)
    return None


def call(interface: Interface, case: Case, q: Any, k: Any, v: Any, slopes: Any) -> Any:
    """Return the output as ``(tokens, heads, head dim)``; inputs are packed likewise, one sequence after the other."""
    options: dict[str, Any] = {"causal": case.causal}
    for name, value in (
        ("window_size", case.window), ("softcap", case.softcap), ("alibi_slopes", slopes), ("dropout_p", case.dropout),
    ):  # fmt: skip
        if name in case.needs or (name == "dropout_p" and interface.generation == 1):
            options[name] = value
    function = functools.partial(interface.functions[case.call], **options)
    caller = _varying if case.call.startswith("varlen") else _fixed
    out = caller(function, case, q, k, v)
    out = out[0] if isinstance(out, tuple) else out
    return out.reshape(q.shape)


def _fixed(function: Callable[..., Any], case: Case, q: Any, k: Any, v: Any) -> Any:
    q, k, v = (x.reshape(len(case.lengths), -1, *x.shape[1:]) for x in (q, k, v))
    if case.call == "qkvpacked":
        return function(torch.stack([q, k, v], 2))
    if case.call == "kvpacked":
        return function(q, torch.stack([k, v], 2))
    return function(q, k, v)


def _varying(function: Callable[..., Any], case: Case, q: Any, k: Any, v: Any) -> Any:
    starts_q, starts_k = (_starts([pair[side] for pair in case.lengths], q.device) for side in (0, 1))
    longest_q, longest_k = (max(pair[side] for pair in case.lengths) for side in (0, 1))
    if case.call == "varlen_qkvpacked":
        return function(torch.stack([q, k, v], 1), starts_q, longest_q)
    named = {"cu_seqlens_q": starts_q, "cu_seqlens_k": starts_k, "max_seqlen_q": longest_q, "max_seqlen_k": longest_k}
    if case.call == "varlen_kvpacked":
        return function(q, torch.stack([k, v], 1), **named)
    return function(q, k, v, **named)


def _starts(lengths: list[int], device: Any) -> Any:
    return torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)


def sdpa(q: Any, k: Any, v: Any, *, causal: bool = False) -> Any:
    """PyTorch's own attention, in flash-attn's layout; grouped heads are repeated where this torch cannot group."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


def xformers_attention(q: Any, k: Any, v: Any, *, causal: bool = False) -> Any:
    """xformers' attention; its causal mask is aligned as flash-attn's is."""
    ops = importlib.import_module("xformers.ops")
    bias = ops.fmha.attn_bias.LowerTriangularFromBottomRightMask() if causal else None
    return ops.memory_efficient_attention(q, k, v, attn_bias=bias)
