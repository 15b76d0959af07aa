"""The 2.x adapter on a GPU: right numbers on many shapes, the same model as with SDPA, and how long it takes. Needs torch; run by hand.

    python benchmarks/adapter.py numerics | model | speed [--output FILE]

``numerics`` compares with float64 attention (tests/adapter/computing.py), ``model`` a tiny random Llama of transformers with
``attn_implementation="flash_attention_2"``, padded and packed, with SDPA, ``speed`` times against SDPA.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

LIMITS = {"float16": 4e-3, "bfloat16": 3e-2}
"""The largest error allowed, relative to the largest value: a few units of the dtype's last place."""


def computing() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "tests" / "adapter" / "computing.py"
    spec = importlib.util.spec_from_file_location("computing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attention_cases() -> Iterator[dict[str, Any]]:
    for dtype in ("float16", "bfloat16"):
        for dim in (32, 64, 96, 128, 256):
            for causal in (False, True):
                for lengths in ([[113, 113]] * 2, [[113, 203]] * 2, [[203, 113]] * 2, [[1, 147]] * 2):
                    yield {"call": "func", "dtype": dtype, "dim": dim, "causal": causal, "lengths": lengths, "heads": [6, 2]}
    windows = ([32, 0], [17, 29], [0, 0], [-1, 5], [40, -1])
    ragged = [[1, 1], [17, 17], [128, 128], [113, 113], [203, 203]]
    uneven = [[113, 203], [64, 1], [0, 9], [33, 128], [9, 0], [200, 200]]
    for dtype in ("float16", "bfloat16"):
        for causal in (False, True):
            base = {"dtype": dtype, "dim": 64, "causal": causal, "heads": [4, 2]}
            yield base | {"call": "varlen", "lengths": ragged, "shared": True}
            yield base | {"call": "varlen", "lengths": ragged}
            yield base | {"call": "varlen", "lengths": uneven}
            for window in windows:
                for lengths in ([[300, 300]], [[113, 203]], [[203, 113]]):
                    yield base | {"call": "func", "lengths": lengths, "window": window}
                yield base | {"call": "varlen", "lengths": ragged, "shared": True, "window": window}
                yield base | {"call": "varlen", "lengths": uneven, "window": window}
            yield base | {"call": "func", "lengths": [[384, 384]] * 2, "heads": [4, 4], "strided": 64, "deterministic": True}
            yield base | {"call": "func", "lengths": [[1, 1]], "dim": 72, "scale": 0.3}
            yield base | {"call": "func", "lengths": [[65, 65]], "dim": 40}
            yield base | {"call": "func", "lengths": [[65, 65]], "dim": 20, "heads": [2, 1]}


def other_cases() -> Iterator[dict[str, Any]]:
    for dtype in ("float16", "bfloat16"):
        for call in ("func", "varlen"):
            lengths = [[100, 64], [100, 64]] if call == "func" else [[100, 64], [33, 64]]
            yield {
                "kind": "dropout",
                "call": call,
                "dtype": dtype,
                "dim": 64,
                "heads": [4, 2],
                "lengths": lengths,
                "dropout": 0.25,
            }
        cache = {"kind": "kvcache", "dtype": dtype, "dim": 64, "heads": [4, 2], "room": 512, "causal": True}
        yield cache | {"filled": [300, 300], "new": 1, "queries": 1}
        yield cache | {"filled": [77, 300], "new": 5, "queries": 5, "rotary": 64, "interleaved": False}
        yield cache | {"filled": [77, 300], "new": 5, "queries": 5, "rotary": 32, "interleaved": True, "page": 256}
        yield cache | {"filled": [77, 300], "new": 0, "queries": 3, "leftpad": [5, 0], "rows": [3, 1], "window": [50, -1]}


def numerics(device: str, every: int = 1, max_dim: int = 256) -> dict[str, Any]:
    import flash_attn

    module = computing()
    module.prepare()
    results = []
    cases = [*({"kind": "attention"} | case for case in attention_cases()), *other_cases()]
    for case in [case for case in cases if case["dim"] <= max_dim][::every]:
        case = {"window": [-1, -1], "causal": False, "device": device} | case
        if device == "cpu":
            case["dtype"] = "float64"
        started = time.perf_counter()
        try:
            answer = module.KINDS[case["kind"]]({key: value for key, value in case.items() if key != "kind"})
            errors = [answer.get("out", 0.0), answer.get("lse", 0.0), *answer.get("grads", []), *answer.get("errors", [])]
            limit = LIMITS.get(case["dtype"], 1e-6)
            right = max(errors) <= limit and answer.get("same", True)
        except Exception as error:
            answer, errors, right = {"raised": f"{type(error).__name__}: {error}"[:300]}, [float("inf")], False
        seconds = round(time.perf_counter() - started, 3)
        results.append({"case": case, "answer": answer, "error": max(errors), "right": right, "seconds": seconds})
    wrong = [result for result in results if not result["right"]]
    worst = {dtype: max((r["error"] for r in results if r["case"]["dtype"] == dtype), default=None) for dtype in LIMITS}
    return {"version": flash_attn.__build__, "cases": len(results), "wrong": wrong, "worst": worst, "results": results}


def llama(attention: str, dtype: torch.dtype, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        attn_implementation=attention,
        use_cache=False,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype).to(device)


def model_inputs(device: str) -> tuple[dict[str, torch.Tensor], list[int]]:
    """A padded batch (left and right), and the lengths of the sequences in it."""
    lengths = [93, 40, 128]
    torch.manual_seed(1)
    tokens, mask = torch.randint(512, (3, 128)), torch.zeros(3, 128, dtype=torch.long)
    for row, (length, left) in enumerate(zip(lengths, (False, True, False), strict=True)):
        mask[row, slice(128 - length, None) if left else slice(0, length)] = 1
    return {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}, lengths


def run_padded(model: Any, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the real tokens one after the other, and all gradients in one vector."""
    inputs, _ = model_inputs(device)
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    logits = model(**inputs, position_ids=positions).logits[inputs["attention_mask"].bool()]
    return logits, gradients(model, logits)


def run_packed(model: Any, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The same tokens packed into one row, told apart by their position ids alone."""
    inputs, lengths = model_inputs(device)
    tokens = inputs["input_ids"][inputs["attention_mask"].bool()][None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(device)
    logits = model(input_ids=tokens, position_ids=positions).logits[0]
    return logits, gradients(model, logits)


def gradients(model: Any, logits: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(2)
    weight = torch.randn(logits.shape, dtype=torch.float64).to(logits) / logits.shape[0] ** 0.5
    model.zero_grad()
    (logits.float() * weight.float()).sum().backward()
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


def model(device: str, dtype: torch.dtype = torch.float16) -> dict[str, Any]:
    """Compare with SDPA in float64: the adapter may be as far from it as SDPA in half precision is, and a little further."""
    import flash_attn

    if device == "cpu":  # rehearsal: the stand-in of computing.py in place of the kernels, and transformers told of a GPU
        dtype = torch.float64
        rehearse_without_gpu()
    exact = llama("sdpa", torch.float64, device)
    right = run_padded(exact, device)
    found: dict[str, Any] = {"version": flash_attn.__build__, "dtype": str(dtype)}
    runs = {
        "sdpa padded": ("sdpa", run_padded),
        "padded": ("flash_attention_2", run_padded),
        "packed": ("flash_attention_2", run_packed),
    }
    for name, (attention, run) in runs.items():
        try:
            logits, grads = run(llama(attention, dtype, device), device)
        except Exception as error:
            found[name] = {"raised": f"{type(error).__name__}: {error}"[:300]}
            continue
        pairs = zip(("logits", "grads"), (logits, grads), right, strict=True)
        found[name] = {
            kind: float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max()) for kind, a, b in pairs
        }
    allowed = {kind: 2 * found["sdpa padded"][kind] + 1e-3 for kind in ("logits", "grads")}
    found["right"] = all(
        found[name].get(kind, float("inf")) <= allowed[kind] for name in ("padded", "packed") for kind in allowed
    )
    return found


def rehearse_without_gpu() -> None:
    from transformers import modeling_flash_attention_utils, modeling_utils

    computing().prepare()
    modeling_flash_attention_utils.is_flash_attn_2_available = lambda: True
    modeling_utils.PreTrainedModel._flash_attn_can_dispatch = lambda self, *_, **__: True


def milliseconds(function: Callable[[], Any], repeats: int = 20) -> float:
    for _ in range(3):
        function()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return round(statistics.median(times), 3)


def peak_mib(function: Callable[[], Any]) -> int:
    """Return the most memory that a call takes beside what is held already, MiB."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def forward_backward(function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], grad: torch.Tensor) -> None:
    torch.autograd.grad(function(*inputs), inputs, grad)


def speed(device: str, max_dim: int = 256) -> dict[str, Any]:
    """Median milliseconds of 16384 tokens, 16 heads, float16, causal: forward, and forward with backward, with the latter's MiB."""
    import flash_attn
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True).transpose(1, 2)

    def efficient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            return sdpa(q, k, v)

    def adapter(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(flash_attn.flash_attn_func(q, k, v, causal=True))

    rows = []
    for dim in (dim for dim in (64, 128) if dim <= max_dim):
        for length in (1024, 2048, 4096, 8192):
            shape = (16384 // length, length, 16, dim)
            q, k, v = (torch.randn(shape, dtype=torch.float16, device=device, requires_grad=True) for _ in range(3))
            grad = torch.randn_like(q)
            row: dict[str, Any] = {"head_dim": dim, "length": length, "kernels": flash_attn.kernels(head_dim=dim, backward=False)}
            for name, function in (("sdpa", sdpa), ("sdpa efficient", efficient), ("adapter", adapter)):
                with torch.no_grad():
                    row[f"{name} fwd"] = milliseconds(partial(function, q, k, v))
                both = partial(forward_backward, function, (q, k, v), grad)
                row[f"{name} fwd+bwd"] = milliseconds(both)
                row[f"{name} MiB"] = peak_mib(both)
            rows.append(row)
    return {"version": flash_attn.__build__, "device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["numerics", "model", "speed"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--every", type=int, default=1, help="take each so many-th of the cases of numerics")
    parser.add_argument("--max-dim", type=int, default=256, help="the largest head dim of numerics and speed")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    whats: dict[str, Callable[[str], dict[str, Any]]] = {
        "numerics": partial(numerics, every=options.every, max_dim=options.max_dim),
        "model": model,
        "speed": partial(speed, max_dim=options.max_dim),
    }
    result = whats[options.what](options.device)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))
    show(options.what, result)
    return int(bool(result.get("wrong")) or result.get("right") is False)


def show(what: str, result: dict[str, Any]) -> None:
    print(f"{what} {result['version']}")
    if what == "numerics":
        print(f"  {result['cases']} cases, {len(result['wrong'])} wrong, worst {result['worst']}")
        for wrong in result["wrong"][:12]:
            print(f"  WRONG {wrong['case']} {wrong['answer']}")
    elif what == "model":
        print("\n".join(f"  {name}: {value}" for name, value in result.items() if name != "version"))
    else:
        for row in result["rows"]:
            print("  " + "  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    sys.exit(main())
