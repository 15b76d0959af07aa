"""Which kernels are compiled: head dims, dtypes and features → translation units, and what stands in for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from provisioner.building.releases import Release
from provisioner.compat import StrEnum
from provisioner.errors import UsageError
from provisioner.planning.kernels import UNSLOTH
from provisioner.planning.values import DTYPES, FEATURES, HEAD_DIMS, KernelSelection

ALWAYS = ("varlen",)
"""Features that cannot be left out: variable lengths run in the same kernels as fixed ones."""

SWITCHES = {
    "backward": "FLASHATTENTION_DISABLE_BACKWARD",
    "dropout": "FLASHATTENTION_DISABLE_DROPOUT",
    "alibi": "FLASHATTENTION_DISABLE_ALIBI",
    "softcap": "FLASHATTENTION_DISABLE_SOFTCAP",
    "uneven": "FLASHATTENTION_DISABLE_UNEVEN_K",
    "local": "FLASHATTENTION_DISABLE_LOCAL",
}
"""Feature → the macro by which flash-attn 2.6.3 … 2.8.3.post2 leave it out *and* refuse it at run time.

Source: flash_api.cpp and static_switch.h of these sdists, read 2026-11-24; each macro has a TORCH_CHECK in the host code.
"""

NEVER_IN_1 = ("local", "softcap", "alibi", "kvcache")
"""Features that no 1.x release has (the sdist of 1.0.9, read 2026-11-24)."""

PRESETS = ("full", "unsloth")


class Direction(StrEnum):
    """What a kernel computes; ``split`` is the forward over a split key/value sequence (decoding, paged cache)."""

    FORWARD = "fwd"
    BACKWARD = "bwd"
    SPLIT = "split"
    BLOCK_FORWARD = "block-fwd"
    BLOCK_BACKWARD = "block-bwd"


@dataclass(frozen=True, slots=True, order=True)
class Kernel:
    """One entry point that the host code calls. Generation 1 has neither dtype nor causal in its entry points."""

    direction: Direction
    head_dim: int
    dtype: str | None = None
    causal: bool | None = None

    def unit(self, release: Release) -> str:
        """The translation unit that defines it, as a path in the sdist."""
        match self.direction:
            case Direction.BLOCK_FORWARD:
                return f"{release.sources}/fmha_block_fprop_fp16_kernel.sm80.cu"
            case Direction.BLOCK_BACKWARD:
                return f"{release.sources}/fmha_block_dgrad_fp16_kernel_loop.sm80.cu"
        if release.generation == 1:
            return f"{release.sources}/fmha_{self.direction}_hdim{self.head_dim}.cu"
        name = "fwd_split" if self.direction is Direction.SPLIT else str(self.direction)
        causal = "_causal" if self.causal else ""
        return f"{release.sources}/flash_{name}_hdim{self.head_dim}_{self.dtype}{causal}_sm80.cu"


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome: kernels to compile, kernels answered by stubs, and macros for every unit, device and host alike.

    ``forwarded`` are the split key/value kernels of a build without ``kvcache``: what plain forward kernels compute too goes to
    those, the rest is refused (`generated.host_source`).
    """

    kernels: KernelSelection
    compiled: tuple[Kernel, ...]
    stubbed: tuple[Kernel, ...]
    forwarded: tuple[Kernel, ...]
    defines: tuple[str, ...]


def preset(name: str, release: Release) -> KernelSelection:
    """Return ``full`` (upstream's feature set) or ``unsloth`` for ``release``. Raise `UsageError` for another name."""
    if name == "full":
        return KernelSelection("full", release.head_dims, DTYPES, FEATURES)
    if name == "unsloth":
        dims = tuple(sorted({kernel_dim(release, dim) for dim in UNSLOTH.head_dims if dim <= release.head_dims[-1]}))
        return KernelSelection("unsloth", dims, UNSLOTH.dtypes, UNSLOTH.features)
    raise UsageError(f"no such kernel set: {name}", hints=["choose full or unsloth, or name --head-dims and --dtypes"])


def kernel_dim(release: Release, head_dim: int) -> int:
    """Return the head dim of the kernel that serves ``head_dim``: the next one upwards. Raise `UsageError` above the last."""
    if head_dim >= 1:
        for dim in release.head_dims:
            if head_dim <= dim:
                return dim
    raise UsageError(
        f"flash-attn {release.version} has no kernels for head dim {head_dim}",
        why=f"its head dims are {', '.join(map(str, release.head_dims))}",
        hints=[f"--head-dims {release.head_dims[-1]}, where other layers have smaller heads"] if head_dim > 0 else [],
        code="no-kernel",
    )


def choose(
    release: Release,
    base: KernelSelection,
    *,
    head_dims: tuple[int, ...] = (),
    dtypes: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
) -> KernelSelection:
    """Return ``base`` with what is given put in its place (then its preset is ``custom``).

    Raise `UsageError` for a feature that was asked for by name, or by a model, and that the release does not have.
    """
    asked = features or (() if base.preset in PRESETS else base.features)
    if release.generation == 1 and (lacking := [name for name in asked if name in NEVER_IN_1]):
        raise UsageError(
            f"flash-attn {release.version} has no {lacking[0]}",
            hints=["choose a 2.x release, or `--adapter turing109` for 2.x's functions on Turing"],
            code="no-kernel",
        )
    if not (head_dims or dtypes or features):
        return base
    return KernelSelection("custom", head_dims or base.head_dims, dtypes or base.dtypes, features or base.features)


def normalize(release: Release, kernels: KernelSelection) -> KernelSelection:
    """Return ``kernels`` with head dims rounded up to real kernels, sorted and unique; equal builds become equal values.

    A head dim between two kernels brings ``uneven`` along, without which upstream's host code refuses it. A preset means what it means for this release (2.7.4.post1 has head dim 160 in ``full``, 1.0.9 ends at 128). Raise `UsageError` for unknown head dims, dtypes or features.
    """
    if kernels.preset in PRESETS:
        kernels = preset(kernels.preset, release)
    for kind, given, known in (("dtype", kernels.dtypes, DTYPES), ("feature", kernels.features, FEATURES)):
        if unknown := [name for name in given if name not in known]:
            raise UsageError(f"no such {kind}: {unknown[0]}", hints=[f"known: {', '.join(known)}"], code="unknown-kernel")
    if not kernels.head_dims or not kernels.dtypes:
        raise UsageError(
            "a build needs at least one head dim and one dtype",
            hints=["for example --head-dims 64,128 --dtypes bf16"],
            code="no-kernel",
        )
    dims = tuple(sorted({kernel_dim(release, dim) for dim in kernels.head_dims}))
    between = ("uneven",) if set(kernels.head_dims) - set(release.head_dims) else ()
    features = tuple(name for name in FEATURES if name in (*kernels.features, *ALWAYS, *between))
    dtypes = tuple(name for name in DTYPES if name in kernels.dtypes)
    if release.generation == 1:  # both dtypes and all features share each unit; there are no switches
        backward = ("backward",) if "backward" in kernels.features else ()
        return replace(kernels, head_dims=dims, dtypes=DTYPES, features=(*backward, "varlen", "uneven", "dropout"))
    return replace(kernels, head_dims=dims, dtypes=dtypes, features=features)


def select(release: Release, kernels: KernelSelection) -> Selection:
    """Return what to compile for ``kernels``, and which of the release's other kernels need a stand-in so that linking succeeds."""
    wanted = normalize(release, kernels)
    compiled = tuple(kernel for kernel in all_kernels(release) if _is_wanted(kernel, wanted))
    missing = [kernel for kernel in all_kernels(release) if not _is_wanted(kernel, wanted)]
    forwarded = tuple(kernel for kernel in missing if _is_forwarded(kernel, wanted))
    stubbed = tuple(kernel for kernel in missing if not _is_forwarded(kernel, wanted))
    defines: tuple[str, ...] = ()
    if release.generation == 2:
        defines = tuple(macro for feature, macro in SWITCHES.items() if feature not in wanted.features)
    return Selection(wanted, compiled, stubbed, forwarded, defines)


def all_kernels(release: Release) -> tuple[Kernel, ...]:
    """Return every kernel entry point of ``release``, in a fixed order."""
    if release.generation == 1:
        pairs = [Kernel(way, dim) for way in (Direction.FORWARD, Direction.BACKWARD) for dim in release.head_dims]
        return (*pairs, Kernel(Direction.BLOCK_FORWARD, 0), Kernel(Direction.BLOCK_BACKWARD, 0))
    return tuple(
        Kernel(direction, dim, dtype, causal)
        for direction in (Direction.FORWARD, Direction.BACKWARD, Direction.SPLIT)
        for dim in release.head_dims
        for dtype in DTYPES
        for causal in (False, True)
    )


def _is_wanted(kernel: Kernel, wanted: KernelSelection) -> bool:
    if kernel.direction in (Direction.BLOCK_FORWARD, Direction.BLOCK_BACKWARD):
        return wanted.preset == "full"
    if kernel.head_dim not in wanted.head_dims or (kernel.dtype is not None and kernel.dtype not in wanted.dtypes):
        return False
    needed = {Direction.BACKWARD: "backward", Direction.SPLIT: "kvcache"}.get(kernel.direction)
    return needed is None or needed in wanted.features


def _is_forwarded(kernel: Kernel, wanted: KernelSelection) -> bool:
    return kernel.direction is Direction.SPLIT and "kvcache" not in wanted.features


def for_model(config: dict[str, Any]) -> KernelSelection:
    """Return what one model needs, read from its ``config.json`` as transformers writes it (nested configs included).

    Backward is always in; ``uneven`` only where a head dim lies between two kernels. Raise `UsageError` when no head dim can be read,
    and for a model that flash-attn 2 cannot compute (`WITH_SINKS`).
    """
    parts = _nested(config)
    if sinks := [str(part["model_type"]) for part in parts if part.get("model_type") in WITH_SINKS]:
        raise UsageError(
            f"no kernels of flash-attn 2 serve a {sinks[0]} model",
            why="its attention has sinks, which flash-attn 2 cannot compute; transformers refuses flash_attention_2 for it",
            hints=["attn_implementation='kernels-community/vllm-flash-attn3', or flash_attention_4, where the GPU has them"],
            code="no-kernel",
        )
    dims = sorted({dim for part in parts for dim in _head_dims(part)})
    if not dims:
        raise UsageError(
            "the model's config states no head dim",
            why="it has neither head_dim nor hidden_size with num_attention_heads",
            hints=["name them: --head-dims 128"],
            code="no-head-dim",
        )
    features = {"backward", "varlen"} | ({"uneven"} if set(dims) - set(HEAD_DIMS) else set())
    for part in parts:
        features |= _features(part)
    ordered = tuple(name for name in FEATURES if name in features)
    return KernelSelection("custom", tuple(dims), _dtypes(parts), ordered)


def _nested(config: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)]
    return [config, *(part for value in inner for part in _nested(value))]


WITH_SINKS = ("gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash", "openai_privacy_filter")
"""Model types that name other implementations than flash-attn 2 as theirs (``_compatible_flash_implementations``), because of sinks.

Source: the modeling files of transformers 5.17.0, read 2026-11-27.
"""

_WIDTHS = ("hidden_size", "n_embd", "d_model", "embed_dim")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads", "decoder_attention_heads")


def _head_dims(part: dict[str, Any]) -> set[int]:
    nope, rope = _numbers(part, "qk_nope_head_dim"), _numbers(part, "qk_rope_head_dim")
    if nope and rope:  # multi-head latent attention: query and key are the two parts joined, values are padded to them
        return {nope[0] + rope[0]}
    if stated := _numbers(part, "head_dim", "global_head_dim"):
        return set(stated)
    width = _numbers(part, *_WIDTHS)[:1]
    return {width[0] // heads for heads in _numbers(part, *_HEADS) if width and width[0] >= heads}


def _numbers(part: dict[str, Any], *keys: str) -> list[int]:
    """Return what ``part`` states under ``keys``, as far as it is a number that counts something."""
    return [value for key in keys if type(value := part.get(key)) is int and value > 0]


def _features(part: dict[str, Any]) -> set[str]:
    found = set()
    if part.get("sliding_window") and part.get("use_sliding_window", True):
        found.add("local")
    if part.get("attn_logit_softcapping"):
        found.add("softcap")
    if any(part.get(key) for key in ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")):
        found.add("dropout")
    if part.get("alibi"):
        found.add("alibi")
    return found


def _dtypes(parts: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the dtypes named in the config; a model saved in float32 is trained in either half precision."""
    names = {"float16": "fp16", "bfloat16": "bf16"}
    found = {names.get(str(part.get(key)).removeprefix("torch.")) for part in parts for key in ("dtype", "torch_dtype")}
    known = tuple(dtype for dtype in DTYPES if dtype in found)
    return known or DTYPES
