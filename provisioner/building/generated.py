"""Sources that a build adds to upstream's, by C++'s own means; no file of the sdist is edited.

`host_source`: upstream's host code in a build without the split key/value kernels. For ordinary calls on short inputs it takes
them for speed (``num_splits_heuristic``), where the plain forward kernel computes the same; appending to a cache, indexing it by
batch and paging are theirs alone. The former go to the plain kernel, the latter are refused.

`unit_source`: an upstream unit without the block shapes that no GPU of this build takes: they are declared as explicit
specializations that refuse, so the template is never instantiated for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.building import shapes
from provisioner.building.releases import Release
from provisioner.building.selection import Direction, Kernel, Selection
from provisioner.building.stubs import CUTLASS, rebuild_command, stub_source

UPSTREAM = "../src"
"""The unpacked sdist, seen from the folder of generated files; by name alone a file would include itself."""


def sources(release: Release, selection: Selection, archs: Sequence[str]) -> dict[str, str]:
    """Return every generated file of a build: name → C++ text. One that has the name of an upstream file stands in for it."""
    found = {}
    if selection.stubbed:
        found["stubs.cpp"] = stub_source(release, selection)
    if selection.forwarded:
        found[Path(release.api).name] = host_source(release, selection)
    for kernel in selection.compiled:
        if unused := unused_shapes(kernel, release, selection, archs):
            found[Path(kernel.unit(release)).name] = unit_source(kernel, release, unused, archs)
    return found


def host_source(release: Release, selection: Selection) -> str:
    """Return the C++ text of the host unit: upstream's own file, unchanged, and what answers its calls of split key/value kernels.

    Upstream takes the same way itself when its heuristic chooses one split (``run_mha_fwd`` in flash_api.cpp of 2.6.3, 2.7.4.post1
    and 2.8.3.post2, read 2026-11-25), so the plain kernel knows every parameter that can be set there.
    """
    wanted = selection.kernels
    kernel = Kernel(Direction.SPLIT, wanted.head_dims[0], wanted.dtypes[0], False)
    body = f"""
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_splitkv_dispatch(Flash_fwd_params &params, cudaStream_t stream) {{
  const bool plain = params.knew_ptr == nullptr && params.cache_batch_idx == nullptr && params.block_table == nullptr;
  TORCH_CHECK(plain, "this build of flash-attn {release.version} has no kernels that append to a key/value cache or read a paged or "
                     "indexed one; rebuild with: {rebuild_command(kernel, release, selection)}");
  params.num_splits = 1;
  run_mha_fwd_<T, Headdim, Is_causal>(params, stream);
}}
"""
    head = "// Generated: upstream's host code, in a build without the split key/value kernels.\n"
    return f'{head}#include "{UPSTREAM}/{release.api}"\n{_in_namespace(release, body)}'


def unused_shapes(kernel: Kernel, release: Release, selection: Selection, archs: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """Return the shapes (template arguments, with dropout or without) of ``kernel`` that no GPU able to run ``archs`` takes."""
    gpus = shapes.gpus_of(archs)
    if release.version not in shapes.RELEASES or gpus is None or kernel.direction not in (Direction.FORWARD, Direction.BACKWARD):
        return ()
    found = []
    for dropout in (False, True) if "dropout" in selection.kernels.features else (False,):
        question = (str(kernel.direction), kernel.head_dim, bool(kernel.causal), dropout)
        needed = {shape.arguments for shape in shapes.needed_shapes(*question, gpus)}
        found += [(shape.arguments, dropout) for shape in shapes.shapes_of(*question) if shape.arguments not in needed]
    return tuple(found)


def unit_source(kernel: Kernel, release: Release, unused: Sequence[tuple[str, bool]], archs: Sequence[str]) -> str:
    """Return the C++ text of the unit of ``kernel`` in which each of ``unused`` refuses instead of being compiled."""
    way = str(kernel.direction)
    built = ", ".join(archs)
    text = f"this build of flash-attn {release.version} is for {built}; rebuild it with --arch for this GPU"
    assert kernel.dtype is not None
    body = "".join(
        f"template <> inline void run_flash_{way}<Flash_{way}_kernel_traits<{kernel.head_dim}, {arguments}, {CUTLASS[kernel.dtype]}>, "
        f"{str(dropout).lower()}, {str(bool(kernel.causal)).lower()}>(Flash_{way}_params &, cudaStream_t) {{\n"
        f'  TORCH_CHECK(false, "{text}");\n}}\n'
        for arguments, dropout in unused
    )
    head = f'// Generated: upstream\'s unit without block shapes that no GPU of this build takes.\n#include "flash_{way}_launch_template.h"\n'
    return f'{head}{_in_namespace(release, body)}#include "{UPSTREAM}/{kernel.unit(release)}"\n'


def _in_namespace(release: Release, body: str) -> str:
    return f"\nnamespace flash {{\n{body.strip()}\n}}  // namespace flash\n\n" if release.namespaced else f"\n{body.strip()}\n\n"
