"""The list of what is computed: pure, from what the build claims and what its functions accept. Needs no torch.

Quick covers each claimed kernel once (dtype × head dim × causal) and each feature on one kernel; full crosses them.
What is not claimed becomes a case that must be refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

KERNEL_DIMS = {1: (32, 64, 128), 2: (32, 64, 96, 128, 192, 256)}
"""Head dims that have kernels of their own, by generation (static_switch.h of 2.8.3.post2, fmha_api.cpp of 1.0.9)."""

EVEN, LONG = (128, 128), (1031, 1031)
ODD = (203, 203)
CROSS = (203, 301)
"""(queries, keys): more than one tile of any kernel's (64 to 176 rows or keys) in both, and never a whole number of them."""

ONE = (1, 147)
RAGGED = (1, 17, 128, 113, 203)
DROPOUT = 0.25
"""Kept as 192 of 256 steps, so the rounding of the kernels' 8-bit threshold costs nothing."""

SCALE = 0.05
"""A softmax scale that is no head dim's own; Gemma and Granite train with one."""

CACHES = {
    "paged": "block_table",
    "rotary": "rotary_cos",
    "rotary-halves": "rotary_cos",
    "leftpad": "cache_leftpad",
    "rows": "cache_batch_idx",
}
"""What a key/value cache may be asked for, and the parameter that asks: pages, new keys and queries turned (neighbouring dims paired, or
the two halves), sequences that begin late in their row, sequences in other rows than their own."""


@dataclass(frozen=True)
class Case:
    """One call. ``lengths`` are (queries, keys) of each sequence; ``refused`` names what the build does not claim.

    ``scale`` is the softmax scale where it is not the head dim's own. ``strided``: heads lie before tokens in memory, as transformers holds them.
    ``cache`` (of `CACHES`) and ``splits`` are of the key/value cache. With ``backward`` the gradients are compared too.
    """

    call: str
    dtype: str
    head_dim: int
    heads: tuple[int, int] = (4, 4)
    lengths: tuple[tuple[int, int], ...] = (ODD, ODD)
    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    dropout: float = 0.0
    alibi: bool = False
    scale: float | None = None
    strided: bool = False
    backward: bool = True
    cache: str = ""
    splits: int = 0
    refused: str | None = None

    @property
    def name(self) -> str:
        """A readable name, unique in a run."""
        shape = f"{self.dtype} d{self.head_dim} h{self.heads[0]}/{self.heads[1]} n" + "+".join(
            str(q) if q == k else f"{q}:{k}" for q, k in dict.fromkeys(self.lengths)
        )
        flags = [
            "causal" if self.causal else "",
            f"window{self.window[0]},{self.window[1]}" if self.window != (-1, -1) else "",
            f"softcap{self.softcap:g}" if self.softcap else "",
            f"dropout{self.dropout:g}" if self.dropout else "",
            "alibi" if self.alibi else "",
            f"scale{self.scale:g}" if self.scale else "",
            "heads-first" if self.strided else "",
            self.cache,
            f"splits{self.splits}" if self.splits else "",
            "" if self.backward else "forward",
        ]
        return " ".join([self.call, shape, *filter(None, flags)])

    @property
    def needs(self) -> set[str]:
        """The parameters that the function must have."""
        wanted = {"window_size": self.window != (-1, -1), "softcap": self.softcap > 0, "alibi_slopes": self.alibi}
        wanted |= {"dropout_p": self.dropout > 0, "num_splits": self.splits > 0, "softmax_scale": self.scale is not None}
        return {name for name, needed in wanted.items() if needed} | ({CACHES[self.cache]} if self.cache else set())


def build_cases(expect: dict[str, Any], calls: dict[str, set[str]], *, generation: int, mode: str) -> list[Case]:
    """Return the cases for functions ``calls`` (kind → its parameters), refusals last; none needs a parameter that is missing.

    ``expect`` holds ``head_dims``, ``backward_head_dims``, ``dtypes``, ``features``, ``grouped`` (fewer key heads than query heads are possible)
    ``foreign`` (kernels for older devices: what upstream refuses by asking the device is not refused), and ``forward_with_dropout`` where the
    device has no backward with dropout for some head dims.
    """
    main = "func" if "func" in calls else "varlen"
    wanted = [*_claimed(expect, calls, main, mode), *_refusals(expect, main, generation)]
    possible = [case for case in wanted if case.call in calls and case.needs <= calls[case.call]]
    return list({case.name: _with_backward(case, expect) for case in possible}.values())


def _with_backward(case: Case, expect: dict[str, Any]) -> Case:
    """Ask for gradients only where the build has them and the call gives any."""
    if case.refused is not None:
        return case
    dim = _kernel_dim(case.head_dim, expect)
    claimed = "backward" in expect["features"] and dim in expect["backward_head_dims"]
    claimed = claimed and not (case.dropout and dim in expect["forward_with_dropout"])
    return replace(case, backward=case.backward and claimed)


def _kernel_dim(head_dim: int, expect: dict[str, Any]) -> int:
    return min((dim for dim in expect["head_dims"] if dim >= head_dim), default=head_dim)


def _claimed(expect: dict[str, Any], calls: dict[str, set[str]], main: str, mode: str) -> Iterator[Case]:
    dims, dtypes = expect["head_dims"], expect["dtypes"]
    for dtype in dtypes:
        for dim in dims:
            for causal in (False, True):
                yield Case(main, dtype, dim, causal=causal)
    if mode == "full":
        yield from _crossed(expect, main)
        kernels = [(dtype, dim) for dtype in dtypes for dim in dims]
    else:
        kernels = [(dtypes[0], min(dims, key=lambda dim: abs(dim - 64)))]
        kernels += [(dtypes[-1], 128)] if 128 in dims and dims != [128] else []
    for dtype, dim in kernels:
        yield from _features(Case(main, dtype, dim), expect, calls)


def _crossed(expect: dict[str, Any], main: str) -> Iterator[Case]:
    for dtype in expect["dtypes"]:
        for dim in expect["head_dims"]:
            for causal in (False, True):
                for heads in ((4, 4), (6, 2), (4, 1)):
                    for lengths in (EVEN, CROSS, ONE, (203, 113), LONG):
                        yield Case(main, dtype, dim, heads, (lengths, lengths), causal)


def _features(base: Case, expect: dict[str, Any], calls: dict[str, set[str]]) -> Iterator[Case]:
    claimed = expect["features"]
    yield replace(base, lengths=(CROSS, CROSS), causal=True)
    yield replace(base, heads=(2, 2), lengths=(LONG,), causal=True)
    yield replace(base, scale=SCALE)
    if base.call == "func":
        yield replace(base, strided=True, causal=True)
    if expect["grouped"]:
        yield replace(base, heads=(6, 2), causal=True)
        yield replace(base, heads=(4, 1))
        yield replace(base, heads=(6, 2), lengths=(ONE, ONE))
    if "local" in claimed:
        yield replace(base, window=(32, 0))
        yield replace(base, window=(32, 32), causal=True)  # as transformers asks for Mistral's
        yield replace(base, window=(17, 29), lengths=(CROSS, CROSS))
    if "softcap" in claimed:
        yield replace(base, softcap=3.0, causal=True)
    if "alibi" in claimed:
        yield replace(base, alibi=True, causal=True)
        yield replace(base, alibi=True, lengths=(CROSS, CROSS))
    if "uneven" in claimed and base.head_dim > 32:
        yield replace(base, head_dim=base.head_dim - 24)
    if "dropout" in claimed:
        yield replace(base, dropout=DROPOUT)
    yield from _calls(base, calls, expect)


def _calls(base: Case, calls: Collection[str], expect: dict[str, Any]) -> Iterator[Case]:
    ragged = tuple((length, length) for length in RAGGED)
    if "qkvpacked" in calls:
        yield replace(base, call="qkvpacked", causal=True)
    if "kvpacked" in calls:
        yield replace(base, call="kvpacked", lengths=(CROSS, CROSS))
    if "varlen" in calls:
        yield replace(base, call="varlen", lengths=ragged, causal=True)
        yield replace(base, call="varlen", lengths=(CROSS, (64, 1), (33, 128)))
    if "varlen_qkvpacked" in calls:
        yield replace(base, call="varlen_qkvpacked", lengths=ragged, causal=True)
    if "varlen_kvpacked" in calls:
        yield replace(base, call="varlen_kvpacked", lengths=(CROSS, (33, 128)))
    if "kvcache" in calls and "kvcache" in expect["features"]:
        yield from _caches(_cache(base), expect)


def _caches(base: Case, expect: dict[str, Any]) -> Iterator[Case]:
    several = replace(base, lengths=((5, 77), (5, 300)))
    yield base
    if expect["grouped"]:
        yield replace(base, heads=(6, 2))  # one query over grouped heads: the heads of a group become its rows
    yield replace(several, splits=3)
    for kind in CACHES:
        yield replace(several if kind == "rotary" else base, cache=kind)


def _cache(base: Case) -> Case:
    return replace(base, call="kvcache", backward=False, causal=True, heads=(4, 4), lengths=((1, 77), (1, 300)))


def _refusals(expect: dict[str, Any], main: str, generation: int) -> Iterator[Case]:
    """What the build does not claim: each must end in an error."""
    if generation not in KERNEL_DIMS:
        return
    dims, dtypes, features = expect["head_dims"], expect["dtypes"], expect["features"]
    base = Case(main, dtypes[0], dims[0], causal=True, backward=False)
    for dim in KERNEL_DIMS[generation]:
        if dim not in dims:
            yield replace(base, head_dim=dim, refused=f"head dim {dim}")
        elif not expect["foreign"] and ("backward" not in features or dim not in expect["backward_head_dims"]):
            yield replace(base, head_dim=dim, backward=True, refused=f"backward of head dim {dim}")
    for dtype in () if expect["foreign"] else ("fp16", "bf16"):
        if dtype not in dtypes:
            yield replace(base, dtype=dtype, refused=dtype)
    yield replace(base, dtype="fp32", refused="fp32")
    if expect["grouped"]:
        yield replace(base, heads=(4, 3), refused="4 query heads over 3")
    lacking = {
        "local": replace(base, window=(32, 0), causal=False),
        "softcap": replace(base, softcap=3.0),
        "alibi": replace(base, alibi=True),
        "dropout": replace(base, dropout=DROPOUT),
        "uneven": replace(base, head_dim=dims[-1] - 24 if dims[-1] > 32 else 24),
        "kvcache": _cache(base),
    }
    for feature, case in lacking.items():
        if feature not in features:
            yield replace(case, refused=feature)
