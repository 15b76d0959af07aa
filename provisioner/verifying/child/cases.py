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

EVEN, LONG = (128, 128), (384, 384)
ODD = (113, 113)
CROSS = (113, 203)
"""(queries, keys) that are neither equal nor a multiple of any tile."""

RAGGED = (1, 17, 128, 113, 203)
DROPOUT = 0.25
"""Kept as 192 of 256 steps, so the rounding of the kernels' 8-bit threshold costs nothing."""


@dataclass(frozen=True)
class Case:
    """One call. ``lengths`` are (queries, keys) of each sequence; ``refused`` names what the build does not claim.

    ``paged`` and ``splits`` are of the key/value cache. With ``backward`` the gradients are compared too.
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
    backward: bool = True
    paged: bool = False
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
            "paged" if self.paged else "",
            f"splits{self.splits}" if self.splits else "",
            "" if self.backward else "forward",
        ]
        return " ".join([self.call, shape, *filter(None, flags)])

    @property
    def needs(self) -> set[str]:
        """The parameters that the function must have."""
        wanted = {"window_size": self.window != (-1, -1), "softcap": self.softcap > 0, "alibi_slopes": self.alibi}
        wanted |= {"dropout_p": self.dropout > 0, "block_table": self.paged, "num_splits": self.splits > 0}
        return {name for name, needed in wanted.items() if needed}


def build_cases(expect: dict[str, Any], calls: dict[str, set[str]], *, generation: int, mode: str) -> list[Case]:
    """Return the cases for functions ``calls`` (kind → its parameters), refusals last; none needs a parameter that is missing.

    ``expect`` holds ``head_dims``, ``backward_head_dims``, ``dtypes``, ``features``, ``grouped`` (fewer key heads than query heads are possible)
    and ``foreign`` (kernels for older devices: what upstream refuses by asking the device is not refused).
    """
    main = "func" if "func" in calls else "varlen"
    wanted = [*_claimed(expect, calls, main, mode), *_refusals(expect, main, generation)]
    possible = [case for case in wanted if case.call in calls and case.needs <= calls[case.call]]
    return list({case.name: _with_backward(case, expect) for case in possible}.values())


def _with_backward(case: Case, expect: dict[str, Any]) -> Case:
    """Ask for gradients only where the build has them and the call gives any."""
    if case.refused is not None:
        return case
    claimed = "backward" in expect["features"] and _kernel_dim(case.head_dim, expect) in expect["backward_head_dims"]
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
                    for lengths in (EVEN, CROSS, (1, 147), (203, 113), LONG):
                        yield Case(main, dtype, dim, heads, (lengths, lengths), causal)


def _features(base: Case, expect: dict[str, Any], calls: dict[str, set[str]]) -> Iterator[Case]:
    claimed = expect["features"]
    yield replace(base, lengths=(CROSS, CROSS), causal=True)
    if expect["grouped"]:
        yield replace(base, heads=(6, 2), causal=True)
        yield replace(base, heads=(4, 1))
    if "local" in claimed:
        yield replace(base, window=(32, 0))
        yield replace(base, window=(17, 29), lengths=(CROSS, CROSS))
    if "softcap" in claimed:
        yield replace(base, softcap=3.0, causal=True)
    if "alibi" in claimed:
        yield replace(base, alibi=True, causal=True)
        yield replace(base, alibi=True)
    if "uneven" in claimed and base.head_dim > 32:
        yield replace(base, head_dim=base.head_dim - 24)
    if "dropout" in claimed:
        yield replace(base, dropout=DROPOUT, lengths=((256, base.head_dim),) * 2)
    yield from _calls(base, calls, claimed)


def _calls(base: Case, calls: dict[str, set[str]], claimed: Collection[str]) -> Iterator[Case]:
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
    if "kvcache" in calls and "kvcache" in claimed:
        cache = _cache(base)
        yield cache
        yield replace(cache, lengths=((5, 77), (5, 300)), splits=3)
        yield replace(cache, paged=True)


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
