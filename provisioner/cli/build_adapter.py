"""``provision build --adapter``: the wheel of the 2.x adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner.errors import UsageError

if TYPE_CHECKING:
    from provisioner.adapter.wheel import AdapterOrder

MEANINGLESS = ("version", "source", "sha256", "kernels", "head_dims", "dtypes", "features", "for_model")
"""Options that choose among flash-attn 2.x's own kernels."""


def adapter_order(options: dict[str, Any], python: Path, cuda_root: Path | None) -> AdapterOrder:
    """Return what the options ask for. Raise `UsageError` for those that mean nothing for an adapter."""
    from provisioner.adapter.kernels import BASE_VERSION, AdapterVersion, Kernels
    from provisioner.adapter.wheel import AdapterOrder

    kernels = Kernels(options["adapter"])
    for name in (*MEANINGLESS, *(("archs", "cxx", "cuda_home", "fetch_compiler") if kernels is Kernels.ATEN else ())):
        if options[name]:
            option = f"--{name.removesuffix('s') if name == 'archs' else name.replace('_', '-')}"
            raise UsageError(
                f"{option} has no meaning for --adapter {kernels}",
                why="PyTorch's kernels are in torch"
                if kernels is Kernels.ATEN
                else "the kernels of flash-attn 1.0.9 are not chosen singly",
                hints=["--base-version names the flash-attn that it stands for"]
                if name == "version"
                else [f"leave {option} out"],
            )
    version = AdapterVersion.parse(f"{options['base_version'] or BASE_VERSION}+{kernels}")
    if kernels is Kernels.ATEN:
        return AdapterOrder(version)
    return AdapterOrder(
        version, python, options["archs"], cuda_root, cxx=options["cxx"], jobs=options["jobs"], index_url=options["index_url"]
    )
