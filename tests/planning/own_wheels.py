"""Wheelhouses for the tests of planning, written as a build writes them."""

from __future__ import annotations

from pathlib import Path

from provisioner.building.key import ENGINE, BuildKey
from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.codec import to_json
from provisioner.planning.kernels import UNSLOTH
from provisioner.planning.values import KernelSelection


def build_key(
    torch: str = "2.13.0+cu130",
    *,
    version: str = "2.8.3.post2",
    python: str = "3.12",
    archs: tuple[str, ...] = ("sm_90",),
    kernels: KernelSelection = UNSLOTH,
    glibc: str = "2.31",
) -> BuildKey:
    """Return the key of a build."""
    return BuildKey(
        engine=ENGINE,
        version=version,
        source_sha256="0" * 64,
        patches=(),
        torch=torch,
        torch_revision="f" * 40,
        cxx11_abi=True,
        cuda="13.0.88",
        host_compiler="gcc 12.2.0",
        python_abi="cp" + python.replace(".", ""),
        platform="linux_x86_64",
        glibc=glibc,
        archs=archs,
        head_dims=kernels.head_dims,
        dtypes=kernels.dtypes,
        features=kernels.features,
        units=(),
    )


def store(root: Path, key: BuildKey) -> Entry:
    """Put a wheel of that key into the wheelhouse at ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    tag = f"{key.python_abi}-{key.python_abi}-{key.platform}"
    wheel = root / f"flash_attn-{key.version}+{key.local_version}-{tag}.whl"
    wheel.write_bytes(key.digest.encode())
    try:
        return Wheelhouse(root).store(key.digest, wheel, to_json({"schema": 1, "key": key.digest, "inputs": key}))
    finally:
        wheel.unlink()
