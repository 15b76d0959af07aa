"""What a binary depends on, as one value; its digest is the wheel's address in the wheelhouse.

Equal values give equal binaries in one cache. The folder of the build is left out on purpose: elsewhere the hash of the sources' paths, which
nvcc 13.0.88 writes into names of internal variables, is another (two builds compared, 2026-11-27), and nothing that runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.building.patches import Patch
from provisioner.building.releases import Release
from provisioner.building.selection import Selection
from provisioner.building.target import Target
from provisioner.building.toolchain import Toolchain
from provisioner.codec import digest

ENGINE = 3
"""Raised when this engine begins to make other binaries from the same inputs."""


@dataclass(frozen=True, slots=True)
class BuildKey:
    """Everything that shapes the binary. ``glibc`` is the machine's: the floor that the result will need at most."""

    engine: int
    version: str
    source_sha256: str
    patches: tuple[str, ...]
    torch: str
    torch_revision: str
    cxx11_abi: bool
    cuda: str
    host_compiler: str
    python_abi: str
    platform: str
    glibc: str
    archs: tuple[str, ...]
    head_dims: tuple[int, ...]
    dtypes: tuple[str, ...]
    features: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The sha256 of the value (hex)."""
        return digest(self)

    @property
    def local_version(self) -> str:
        """The local version label: ``cu130torch2.13.k1a2b3c4d``.

        With it the wheel sorts above the plain release and below the next one (PEP 440); the letter keeps the digest from
        being read as a number.
        """
        cuda = "".join(self.cuda.split(".")[:2])
        torch = ".".join(self.torch.partition("+")[0].split(".")[:2])
        return f"cu{cuda}torch{torch}.k{self.digest[:8]}"


def build_key(
    release: Release,
    source_sha256: str,
    selection: Selection,
    patches: tuple[Patch, ...],
    target: Target,
    toolchain: Toolchain,
    archs: tuple[str, ...],
) -> BuildKey:
    """Return the key of one build."""
    kind = "clang" if "clang" in toolchain.cxx.name else "gcc"
    return BuildKey(
        engine=ENGINE,
        version=release.version,
        source_sha256=source_sha256,
        patches=tuple(f"{patch.name}={patch.value}" for patch in patches),
        torch=target.torch.version,
        torch_revision=target.torch.revision,
        cxx11_abi=target.torch.cxx11_abi,
        cuda=toolchain.version,
        host_compiler=f"{kind} {toolchain.cxx_version}",
        python_abi=target.interpreter.abi,
        platform=target.interpreter.platform,
        glibc=target.interpreter.glibc,
        archs=archs,
        head_dims=selection.kernels.head_dims,
        dtypes=selection.kernels.dtypes,
        features=selection.kernels.features,
        units=tuple(kernel.unit(release) for kernel in selection.compiled),
    )
