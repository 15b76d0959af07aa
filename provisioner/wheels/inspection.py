"""The value that inspecting gives: what a wheel, an extension or an environment's flash-attn really holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from provisioner.compat import StrEnum
from provisioner.wheels.linkage import Abi, version_key


class Subject(StrEnum):
    """What was inspected."""

    WHEEL = "wheel"
    EXTENSION = "extension"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Extension:
    """One compiled file. ``archs`` are all architectures with device code, ``stubs`` those of them whose kernels do nothing.

    ``size`` is in bytes; ``images`` counts the pieces of device code of each architecture. ``complete`` is False when only its beginning was read.
    ``undefined``, ``missing_libraries`` and ``missing_versions`` are None until it was linked against a torch.
    """

    path: str
    size: int
    archs: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()
    images: dict[str, int] = field(default_factory=dict)
    abi: Abi | None = None
    glibc: str | None = None
    glibcxx: str | None = None
    cudart: str | None = None
    cuda_major: str | None = None
    needed: tuple[str, ...] = ()
    torch_libs: tuple[str, ...] = ()
    undefined: tuple[str, ...] | None = None
    missing_libraries: tuple[str, ...] | None = None
    missing_versions: tuple[str, ...] | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Inspection:
    """What ``subject`` holds, over all its extensions. None means: it does not say, or it cannot be told.

    ``kernels`` is False where its Python code imports a compiled module (``missing_module``) that is not there. ``torch`` is the release
    that it is made for, by its name or metadata. ``undefined`` and the two after it are None unless it was linked against the torch of
    ``against``. ``complete`` is False when a remote wheel was read in part; ``bytes_read`` of ``bytes_total`` were moved then.
    """

    subject: str
    kind: Subject
    archs: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()
    abi: Abi | None = None
    glibc: str | None = None
    glibcxx: str | None = None
    cudart: str | None = None
    torch: str | None = None
    torch_libs: tuple[str, ...] = ()
    distribution: str | None = None
    version: str | None = None
    tags: tuple[str, ...] = ()
    kernels: bool | None = None
    missing_module: str | None = None
    undefined: tuple[str, ...] | None = None
    missing_libraries: tuple[str, ...] | None = None
    missing_versions: tuple[str, ...] | None = None
    against: str | None = None
    extensions: tuple[Extension, ...] = ()
    complete: bool = True
    bytes_read: int | None = None
    bytes_total: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def working_archs(self) -> tuple[str, ...]:
        """The architectures that it has real kernels for."""
        return tuple(arch for arch in self.archs if arch not in self.stubs)


def with_extensions(empty: Inspection, extensions: Iterable[Extension]) -> Inspection:
    """Return ``empty`` with everything that follows from its extensions: unions of archs, highest floors, the common ABI and CUDA."""
    found = tuple(extensions)
    cudarts = {one.cudart for one in found if one.cudart}
    return replace(
        empty,
        archs=sort_archs(arch for one in found for arch in one.archs),
        stubs=sort_archs(arch for one in found for arch in one.stubs),
        abi=_common_abi({one.abi for one in found}),
        glibc=_highest(one.glibc for one in found),
        glibcxx=_highest(one.glibcxx for one in found),
        cudart=cudarts.pop() if len(cudarts) == 1 else None,
        torch_libs=tuple(dict.fromkeys(name for one in found for name in one.torch_libs)),
        undefined=_joined([one.undefined for one in found]),
        missing_libraries=_joined([one.missing_libraries for one in found]),
        missing_versions=_joined([one.missing_versions for one in found]),
        extensions=found,
        complete=empty.complete and all(one.complete for one in found),
    )


def sort_archs(archs: Iterable[str]) -> tuple[str, ...]:
    """Return architectures without repetition: cubins before PTX, lowest first (``sm_80``, ``sm_90a``, ``compute_90``)."""
    return tuple(sorted(set(archs), key=_arch_key))


def _arch_key(arch: str) -> tuple[int, int, str]:
    kind, _, number = arch.partition("_")
    return ("sm", "compute").index(kind) if kind in ("sm", "compute") else 2, version_key(number)[0], number


def _common_abi(found: set[Abi | None]) -> Abi | None:
    """Return the demand of all together: both C++ ABIs at once cannot be met, and the stable one adds nothing to them."""
    strict = found - {None, Abi.STABLE}
    if len(strict) > 1:
        return None
    return strict.pop() if strict else Abi.STABLE if Abi.STABLE in found else None


def _highest(versions: Iterable[str | None]) -> str | None:
    return max((version for version in versions if version), key=version_key, default=None)


def _joined(parts: list[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    known = [part for part in parts if part is not None]
    return tuple(dict.fromkeys(name for part in known for name in part)) if known else None
