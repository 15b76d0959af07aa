"""Stand-ins for kernels that are not compiled: they let the extension link, and raise when called.

Only declarations that shape the mangled names are repeated here; nothing of torch but its exception header is included, so the
unit compiles in seconds. The link is checked afterwards for kernels that nobody defines (`graph.check_link`).
"""

from __future__ import annotations

from provisioner.building.releases import Release
from provisioner.building.selection import Direction, Kernel, Selection

CUTLASS = {"fp16": "cutlass::half_t", "bf16": "cutlass::bfloat16_t"}
_FUNCTION = {
    Direction.FORWARD: "run_mha_fwd_",
    Direction.SPLIT: "run_mha_fwd_splitkv_dispatch",
    Direction.BACKWARD: "run_mha_bwd_",
}
_WORDS = {
    Direction.FORWARD: "forward",
    Direction.BACKWARD: "backward",
    Direction.SPLIT: "split key/value forward",
    Direction.BLOCK_FORWARD: "block-sparse forward",
    Direction.BLOCK_BACKWARD: "block-sparse backward",
}

_HEAD = """// Generated: kernels that this build leaves out. Each raises instead of computing.
#include <c10/util/Exception.h>

struct CUstream_st;
using cudaStream_t = CUstream_st *;
"""

_DECLARATIONS_2 = """
namespace cutlass { struct half_t; struct bfloat16_t; }
%(open)s
struct Flash_fwd_params;
struct Flash_bwd_params;
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_splitkv_dispatch(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_bwd_(Flash_bwd_params &params, cudaStream_t stream);
"""

_DECLARATIONS_1 = """
struct FMHA_fprop_params;
struct FMHA_dgrad_params;
template <typename Kernel_params> struct Launch_params;
"""


def stub_source(release: Release, selection: Selection) -> str:
    """Return the C++ text of the unit that defines every kernel in ``selection.stubbed``."""
    if release.generation == 1:
        return _HEAD + _DECLARATIONS_1 + "".join(_stub_1(kernel, release) for kernel in selection.stubbed)
    opening, closing = ("namespace flash {", "}  // namespace flash\n") if release.namespaced else ("", "")
    body = "".join(_stub_2(kernel, release, selection) for kernel in selection.stubbed)
    return _HEAD + _DECLARATIONS_2 % {"open": opening} + body + closing


def _stub_2(kernel: Kernel, release: Release, selection: Selection) -> str:
    assert kernel.dtype is not None
    params = "Flash_bwd_params" if kernel.direction is Direction.BACKWARD else "Flash_fwd_params"
    arguments = f"{CUTLASS[kernel.dtype]}, {kernel.head_dim}, {str(kernel.causal).lower()}"
    return (
        f"template <> void {_FUNCTION[kernel.direction]}<{arguments}>({params} &, cudaStream_t) {{\n"
        f"  {_refusal(kernel, release, rebuild_command(kernel, release, selection))}\n}}\n"
    )


def _stub_1(kernel: Kernel, release: Release) -> str:
    match kernel.direction:
        case Direction.BLOCK_FORWARD:
            signature = "run_fmha_block_fp16_sm80(Launch_params<FMHA_fprop_params> &, const bool)"
        case Direction.BLOCK_BACKWARD:
            signature = "run_fmha_block_dgrad_fp16_sm80(const FMHA_dgrad_params &, cudaStream_t)"
        case Direction.FORWARD:
            signature = f"run_fmha_fwd_hdim{kernel.head_dim}(Launch_params<FMHA_fprop_params> &)"
        case _:
            signature = f"run_fmha_bwd_hdim{kernel.head_dim}(FMHA_dgrad_params &, cudaStream_t, const bool)"
    command = f"provision build --version {release.version} --kernels full"
    return f"void {signature} {{\n  {_refusal(kernel, release, command)}\n}}\n"


def rebuild_command(kernel: Kernel, release: Release, selection: Selection) -> str:
    """Return the command that builds what is there already and ``kernel`` too."""
    wanted = selection.kernels
    dims = ",".join(map(str, sorted({*wanted.head_dims, kernel.head_dim})))
    dtypes = ",".join(dtype for dtype in CUTLASS if dtype in wanted.dtypes or dtype == kernel.dtype)
    needed = {Direction.BACKWARD: ("backward",), Direction.SPLIT: ("kvcache",)}.get(kernel.direction, ())
    features = {*wanted.features, *needed}
    return f"provision build --version {release.version} --head-dims {dims} --dtypes {dtypes} --features {','.join(sorted(features))}"


def _refusal(kernel: Kernel, release: Release, command: str) -> str:
    details = [f"head dim {kernel.head_dim}"] if kernel.head_dim else []
    details += [kernel.dtype] if kernel.dtype else []
    what = f"this build of flash-attn {release.version} has no {_WORDS[kernel.direction]} kernel"
    text = f"{what}{' for ' if details else ''}{', '.join(details)}; rebuild with: {command}"
    return f'TORCH_CHECK(false, "{text}");'
