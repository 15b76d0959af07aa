"""Whether a wheel may be used: every reason against it on a given machine with a given torch, each with a stable code.

The same codes are those of `doctor`'s findings, so that a refusal before the installation and the diagnosis after one read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.capability import ComputeCapability
from provisioner.machine.facts import Machine
from provisioner.wheels.inspection import Extension, Inspection, with_extensions
from provisioner.wheels.linkage import Abi, version_key
from provisioner.wheels.python_side import DISTRIBUTIONS

_ARCH = re.compile(r"(sm|compute)_(\d+)([af]?)")
_SHOWN = 3
_OTHER_ACCELERATORS = ("libamdhip", "librocblas", "libhipblas", "libsycl")


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason against a wheel: a stable code, and a sentence that says what would happen."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a wheel would run. What is None (or empty) is not known and raises no objection.

    ``gpus`` are compute capabilities (``9.0``); ``torch`` and ``torch_cuda`` are versions, ``abi`` is that of torch; ``python`` is ``3.12``.
    """

    gpus: tuple[str, ...] = ()
    glibc: str | None = None
    python: str | None = None
    machine: str | None = None
    torch: str | None = None
    torch_cuda: str | None = None
    abi: Abi | None = None

    @classmethod
    def of(cls, machine: Machine, *, torch_abi: Abi | None = None) -> Target:
        """Return the target that a machine's facts describe, with the torch in its interpreter."""
        software = machine.software
        stated = {True: Abi.CXX11, False: Abi.PRE_CXX11, None: None}[software.torch_cxx11_abi]
        return cls(
            gpus=tuple(dict.fromkeys(gpu.compute_capability for gpu in machine.gpus if gpu.compute_capability)),
            glibc=machine.platform.glibc,
            python=software.python,
            machine=machine.platform.machine,
            torch=software.torch,
            torch_cuda=software.torch_cuda,
            abi=torch_abi or stated,
        )


def runs_on(arch: str, gpu: ComputeCapability) -> bool:
    """Say whether device code for ``arch`` (``sm_90a``, ``compute_80``) runs on a GPU.

    ``a`` code runs on exactly its architecture, ``f`` code within its family (same major), PTX on all later ones
    (CUDA Programming Guide, 5.1.2 "Feature Availability", looked up 2026-11-25).
    """
    match = _ARCH.fullmatch(arch)
    if match is None:
        return False
    kind, number, suffix = match.groups()
    built = ComputeCapability(int(number[:-1]), int(number[-1]))
    if suffix == "a":
        return built == gpu
    if suffix == "f" or kind == "sm":
        return gpu.runs_binary_of(built)
    return built <= gpu


def reject_reasons(inspection: Inspection, target: Target) -> tuple[Reason, ...]:
    """Return every reason against using ``inspection``'s subject on ``target``, the most fundamental first; empty: it may be used.

    Of a wheel that carries one library per CUDA release or per accelerator (bitsandbytes) only those count that this torch would load.
    """
    inspection = with_extensions(inspection, _relevant(inspection.extensions, target.torch_cuda))
    return (
        *_without_kernels(inspection, target),
        *_tags(inspection, target),
        *_architectures(inspection, target),
        *_libraries(inspection, target),
        *_symbols(inspection, target),
    )


def _relevant(extensions: tuple[Extension, ...], torch_cuda: str | None) -> list[Extension]:
    for_cuda = [one for one in extensions if not any(name.startswith(_OTHER_ACCELERATORS) for name in one.needed)]
    matching = [one for one in for_cuda if (one.cudart or one.cuda_major) in (None, _major(torch_cuda or ""))]
    return matching if _cuda_majors(matching) else for_cuda or list(extensions)


def _without_kernels(inspection: Inspection, target: Target) -> list[Reason]:
    if inspection.missing_module is not None:
        package = (inspection.distribution or "").replace("-", "_")
        text = (
            "it is empty: neither Python files nor kernels are in it"
            if inspection.missing_module == package
            else f"it holds no kernels: its Python code imports {inspection.missing_module}, which is not in it; `import` would fail"
        )
        return [Reason("no-kernels", text)]
    if target.gpus and inspection.kernels is False and not inspection.archs and inspection.distribution in DISTRIBUTIONS:
        return [Reason("no-kernels", "its compiled module holds no code for NVIDIA GPUs (a ROCm or CPU build)")]
    return []


def _tags(inspection: Inspection, target: Target) -> list[Reason]:
    if not inspection.tags or target.python is None:
        return []
    from packaging.tags import parse_tag

    tags = [tag for text in inspection.tags for tag in parse_tag(text)]
    if any(_interpreter_fits(tag.interpreter, tag.abi, target.python) and _platform_fits(tag.platform, target) for tag in tags):
        return []
    wanted = f"Python {target.python}" + (f" on {target.machine}" if target.machine else "")
    return [Reason("wheel-tag-mismatch", f"it is for {', '.join(inspection.tags[:_SHOWN])}, not for {wanted}")]


def _interpreter_fits(interpreter: str, abi: str, python: str) -> bool:
    wanted = version_key(python)[:2]
    match = re.fullmatch(r"(?:cp|py)(\d)(\d*)", interpreter)
    if match is None or (abi.startswith("cp") and abi.endswith("t") != python.endswith("t")):  # 3.13t: free-threaded
        return False
    built = (int(match[1]), int(match[2] or 0))
    if interpreter.startswith("py") or abi == "abi3":
        return built[0] == wanted[0] and built <= wanted
    return built == wanted


def _platform_fits(platform: str, target: Target) -> bool:
    if platform == "any":
        return True
    if not platform.startswith(("linux_", "manylinux")):
        return False
    return target.machine is None or platform.endswith(f"_{target.machine}")


def _architectures(inspection: Inspection, target: Target) -> list[Reason]:
    if inspection.stubs and not inspection.working_archs and not target.gpus:
        return [_stub_reason(inspection.stubs, "GPUs below 8.0")]
    found = []
    for text in target.gpus if inspection.archs else ():
        gpu = ComputeCapability.parse(text)
        if any(_has_kernels_for(gpu, one) for one in inspection.extensions):
            continue
        if stubs := [arch for arch in inspection.stubs if runs_on(arch, gpu)]:
            found.append(_stub_reason(stubs, text))
        elif inspection.complete:
            found.append(_no_image(inspection, text))
    return found


def _has_kernels_for(gpu: ComputeCapability, extension: Extension) -> bool:
    """Say whether most of an extension's translation units have code for ``gpu``; a lone PTX of some helper does not make it run."""
    working = {arch: count for arch, count in extension.images.items() if arch not in extension.stubs}
    runnable = sum(count for arch, count in working.items() if runs_on(arch, gpu))
    return runnable * 2 >= max(working.values(), default=1)


def _no_image(inspection: Inspection, gpu: str) -> Reason:
    held = ", ".join(inspection.working_archs) or "none that work"
    return Reason("no-kernel-image", f"it has kernels for {held}; a GPU of compute capability {gpu} can run none of them")


def _stub_reason(stubs: Iterable[str], gpu: str) -> Reason:
    return Reason(
        "stub-kernels",
        f"its kernels for {', '.join(stubs)} are stubs that print FATAL and compute nothing: flash-attn 2.x has none for {gpu}",
    )


def _libraries(inspection: Inspection, target: Target) -> list[Reason]:
    reasons = [_missing_version(version) for version in _highest_of_each(inspection.missing_versions or ())]
    if not reasons and inspection.glibc and target.glibc and version_key(inspection.glibc) > version_key(target.glibc):
        text = f"it needs glibc {inspection.glibc}, this system has {target.glibc}; importing it fails with `GLIBC_{inspection.glibc}' not found"
        reasons.append(Reason("glibc-too-old", text))
    if inspection.missing_libraries:
        reasons.append(_missing_libraries(inspection.missing_libraries))
    elif target.torch_cuda and (majors := _cuda_majors(inspection.extensions)) and _major(target.torch_cuda) not in majors:
        text = f"it is linked to the CUDA {' / '.join(sorted(majors))} runtime, and torch brings CUDA {target.torch_cuda}"
        reasons.append(Reason("libcudart-missing", text))
    return reasons


def _missing_libraries(names: tuple[str, ...]) -> Reason:
    code = "libcudart-missing" if any(name.startswith("libcudart") for name in names) else "library-missing"
    return Reason(code, f"it needs {', '.join(names)}, which neither torch, its CUDA packages nor the system has")


def _highest_of_each(versions: Iterable[str]) -> list[str]:
    """Return the highest of GLIBC_…, of GLIBCXX_… and of the others."""
    return list({version.partition("_")[0]: version for version in sorted(versions, key=version_key)}.values())


def _missing_version(version: str) -> Reason:
    code = "glibc-too-old" if version.startswith("GLIBC_") else "libstdcxx-too-old"
    library = "C library" if version.startswith("GLIBC_") else "libstdc++"
    return Reason(code, f"the {library} here has no {version}: `version `{version}' not found` at import")


def _major(version: str) -> str:
    return version.split(".")[0]


def _cuda_majors(extensions: Iterable[Extension]) -> set[str]:
    return {major for one in extensions if (major := one.cudart or one.cuda_major)}


def _symbols(inspection: Inspection, target: Target) -> list[Reason]:
    if inspection.undefined:
        shown = ", ".join(inspection.undefined[:_SHOWN])
        more = f" and {len(inspection.undefined) - _SHOWN} more" if len(inspection.undefined) > _SHOWN else ""
        torch = f"torch {target.torch}" if target.torch else "this torch"
        return [Reason("undefined-symbol-abi-mismatch", f"{torch} lacks {shown}{more}: `undefined symbol` at import")]
    strict = inspection.abi in (Abi.CXX11, Abi.PRE_CXX11)
    if strict and target.abi and inspection.abi is not target.abi:
        text = f"it is built for torch's {inspection.abi} C++ ABI, this torch has {target.abi}: `undefined symbol` at import"
        return [Reason("undefined-symbol-abi-mismatch", text)]
    if inspection.undefined is None and strict and _other_release(inspection.torch, target.torch):
        text = f"it is built for torch {inspection.torch}, not {target.torch}; C++ names change with each minor release"
        return [Reason("undefined-symbol-abi-mismatch", text)]
    return []


def _other_release(built_for: str | None, torch: str | None) -> bool:
    return bool(built_for and torch) and version_key(built_for or "")[:2] != version_key(torch or "")[:2]
