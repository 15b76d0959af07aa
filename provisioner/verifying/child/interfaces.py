"""The functions that an installed attention really has, seen by one shape: packed inputs in, packed output out.

Which parameters a function takes is read from its signature, never assumed from a version number. Read for that: flash_attn_interface.py
of 1.0.9 and 2.8.3.post2, hopper/flash_attn_interface.py (FA3) on upstream's main, flash_attn/cute/interface.py of flash-attn-4 4.0.0b36
(2026-11-25).
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from provisioner.verifying.child.cases import CACHES, Case
from provisioner.verifying.child.imports import installed_version, is_there


@dataclass(frozen=True)
class Interface:
    """A family of functions. ``functions`` maps a kind of call (`Case.call`) to the function; ``generation`` is 0 outside flash-attn.

    ``align_right`` says how masks lie when there are more keys than queries. ``claims`` is what this family says of itself where that is
    not the job's expectation. ``optional``: it may refuse any case, as torch's backends do by device and shape; what it computes must be right.
    """

    family: str
    version: str
    generation: int
    functions: dict[str, Callable[..., Any]]
    align_right: bool = True
    grouped: bool = True
    calls: dict[str, set[str]] = field(default_factory=dict)
    claims: dict[str, Any] | None = None
    optional: bool = False

    def named(self, call: str) -> str:
        """The function's own name, as one would look it up."""
        function = self.functions[call]
        while isinstance(function, functools.partial):
            function = function.func
        return f"{function.__module__}.{function.__qualname__}"


def find_interfaces(attention: str, device: str) -> list[Interface]:
    """Return what is there to verify.

    For ``flash-attn`` every generation that is installed. Without it (``sdpa``) what torch takes by itself and each of its backends, and
    xformers where it has an operator on ``device``; ``xformers`` is that alone.
    """
    if attention == "sdpa":
        return [*_torch_backends(), *([_xformers(optional=True)] if _xformers_runs(device) else [])]
    if attention == "xformers":
        return [_xformers()]
    return [found for look in (_flash_attn, _flash_attn_3, _flash_attn_4) if (found := look()) is not None]


def _interface(family: str, version: str, generation: int, functions: dict[str, Any], **how: Any) -> Interface:
    present = {call: function for call, function in functions.items() if function is not None}
    calls = {call: _parameters(function) for call, function in present.items()}
    return Interface(family, version, generation, present, calls=calls, **how)


def _parameters(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters
    names = {"block_table" if name == "page_table" else name for name in parameters}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        names |= {"window_size", "softcap", "alibi_slopes", "dropout_p", "softmax_scale", "num_splits", *CACHES.values()}
    return names


def _version(distribution: str) -> str:
    """Return the version of a distribution: FA3's module states none and FA4's asks for a name that it is not installed under."""
    return installed_version(distribution) or ""


def _flash_attn() -> Interface | None:
    if not is_there("flash_attn"):
        return None
    package = importlib.import_module("flash_attn")
    version = str(getattr(package, "__version__", ""))
    kinds = ("func", "varlen_func", "qkvpacked_func", "kvpacked_func", "varlen_qkvpacked_func", "varlen_kvpacked_func")
    if hasattr(package, "flash_attn_varlen_func"):
        functions = {kind.removesuffix("_func"): getattr(package, f"flash_attn_{kind}", None) for kind in kinds}
        functions["kvcache"] = getattr(package, "flash_attn_with_kvcache", None)
        return _interface("flash-attn 2", version, 2, functions, align_right=not version.startswith("2.0."))
    with suppress(ModuleNotFoundError):
        module = importlib.import_module("flash_attn.flash_attn_interface")
        functions = {
            call: getattr(module, f"flash_attn_unpadded_{name}", None)
            for call, name in (("varlen", "func"), ("varlen_qkvpacked", "qkvpacked_func"), ("varlen_kvpacked", "kvpacked_func"))
        }
        if functions["varlen"] is not None:
            return _interface("flash-attn 1", version, 1, functions, align_right=False, grouped=False)
    return None


def _flash_attn_3() -> Interface | None:
    if not is_there("flash_attn_interface"):
        return None
    module = importlib.import_module("flash_attn_interface")
    functions = {
        "func": module.flash_attn_func,
        "varlen": getattr(module, "flash_attn_varlen_func", None),
        "kvcache": getattr(module, "flash_attn_with_kvcache", None),
    }
    flags: dict[str, bool] = {}
    with suppress(ImportError, AttributeError):
        flags = importlib.import_module("flash_attn_config").CONFIG["build_flags"]
    found = _interface("flash-attn 3", _version("flash-attn-3"), 3, functions, claims=claims_of_3(flags))
    return replace(found, calls=_calls_of_3(found.calls, flags))


def claims_of_3(flags: dict[str, bool]) -> dict[str, Any]:
    """Return what an FA3 build has, by the flags that its setup.py writes into ``flash_attn_config.py``; none left out when empty."""

    def has(name: str) -> bool:
        return not flags.get(f"FLASHATTENTION_DISABLE_{name}", False)

    dims = [dim for dim in (64, 96, 128, 192, 256) if has(f"HDIM{dim}")]
    dtypes = [name for name in ("fp16", "bf16") if name == "bf16" or has("FP16")]
    flagged = {"backward": "BACKWARD", "varlen": "VARLEN", "local": "LOCAL", "softcap": "SOFTCAP", "kvcache": "APPENDKV"}
    features = [name for name, flag in flagged.items() if has(flag)]
    return {"head_dims": dims, "backward_head_dims": dims, "dtypes": dtypes, "features": features}


def _calls_of_3(calls: dict[str, set[str]], flags: dict[str, bool]) -> dict[str, set[str]]:
    """Leave out the calls and parameters whose kernels the build flags leave out."""
    off = {name.removeprefix("FLASHATTENTION_DISABLE_") for name, value in flags.items() if value}
    lost = {"SPLIT": "num_splits", "PAGEDKV": "block_table", "LOCAL": "window_size", "SOFTCAP": "softcap"}
    absent = {parameter for flag, parameter in lost.items() if flag in off}
    gone = {call for flag, call in (("VARLEN", "varlen"), ("APPENDKV", "kvcache")) if flag in off}
    return {call: parameters - absent for call, parameters in calls.items() if call not in gone}


def _flash_attn_4() -> Interface | None:
    if not _version("flash-attn-4"):
        return None
    module = importlib.import_module("flash_attn.cute")
    functions = {"func": module.flash_attn_func, "varlen": getattr(module, "flash_attn_varlen_func", None)}
    return _interface("flash-attn 4", _version("flash-attn-4"), 4, functions, claims=LATER)


LATER = {"head_dims": [64, 128], "backward_head_dims": [64, 128], "dtypes": ["fp16", "bf16"], "features": ["backward", "varlen"]}
"""What is asked of FA4, of torch's and of xformers' attention: all of them have it where they run at all."""


def _torch_backends() -> list[Interface]:
    """Return torch's attention as it chooses by itself, and with each of its backends forced."""
    from torch.nn.attention import SDPBackend

    forced = [
        _interface(f"sdpa {label}", torch.__version__, 0, {"func": function}, align_right=False, claims=LATER, optional=True)
        for label, name in BACKENDS.items()
        if hasattr(SDPBackend, name)
        for function in (functools.partial(sdpa, backend=getattr(SDPBackend, name)),)
    ]
    return [_interface("sdpa", torch.__version__, 0, {"func": sdpa}, align_right=False, claims=LATER), *forced]


BACKENDS = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}
"""Torch's backends by the names used here; older releases lack cuDNN's."""


def _xformers(*, optional: bool = False) -> Interface:
    functions = {"func": xformers_attention}
    return _interface("xformers", _version("xformers"), 0, functions, grouped=False, claims=LATER, optional=optional)


def _xformers_runs(device: str) -> bool:
    """Say whether xformers is there and has an operator: built for another CUDA it imports and has none."""
    if not is_there("xformers"):
        return False
    sample = torch.zeros(1, 16, 1, 64, device=device, dtype=torch.float16)
    try:
        xformers_attention(sample, sample, sample)
    except (ImportError, NotImplementedError):
        return False
    return True


def call(interface: Interface, case: Case, q: Any, k: Any, v: Any, slopes: Any) -> Any:
    """Return the output as ``(tokens, heads, head dim)``; inputs are packed likewise, one sequence after the other."""
    options: dict[str, Any] = {"causal": case.causal}
    for name, value in (
        ("window_size", case.window), ("softcap", case.softcap), ("alibi_slopes", slopes), ("dropout_p", case.dropout),
        ("softmax_scale", case.scale),
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
    if case.strided:
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
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


def sdpa(q: Any, k: Any, v: Any, *, causal: bool = False, backend: Any = None) -> Any:
    """PyTorch's own attention, in flash-attn's layout; grouped heads are repeated where this torch cannot group."""
    from torch.nn.attention import sdpa_kernel

    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    with sdpa_kernel(backend) if backend is not None else nullcontext():
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2)


def xformers_attention(q: Any, k: Any, v: Any, *, causal: bool = False) -> Any:
    """xformers' attention; its causal mask is aligned as flash-attn's is."""
    ops = importlib.import_module("xformers.ops")
    bias = ops.fmha.attn_bias.LowerTriangularFromBottomRightMask() if causal else None
    return ops.memory_efficient_attention(q, k, v, attn_bias=bias)
