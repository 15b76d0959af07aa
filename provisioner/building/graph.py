"""The compile graph: every unit with its command, and the ``build.ninja`` that runs them.

Upstream's setup.py names all units and all archs; here the graph holds the chosen ones, with upstream's flags. Everything a
command names lies below the build directory (links to torch, Python's headers and the toolkit), so a command, and with it
ninja's idea of what is done, does not change when the environment moves to another prefix. Dependency files are not used: the
directory belongs to one build key, and the key pins every input (`provisioner.building.key`).
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner import paths
from provisioner.building import costs, generated
from provisioner.building.costs import Cost
from provisioner.building.patches import Patch
from provisioner.building.releases import Release
from provisioner.building.selection import Direction, Selection
from provisioner.building.target import Target
from provisioner.building.toolchain import Toolchain
from provisioner.errors import BuildFailed
from provisioner.wheels.elf import Elf, mapped

TORCH_DEFINES = ("-DTORCH_API_INCLUDE_EXTENSION_H",)
TORCH_NVCC_FLAGS = (
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)
"""What torch.utils.cpp_extension passes to every CUDA extension (COMMON_NVCC_FLAGS of 2.13.0, read 2026-11-24)."""

UPSTREAM_NVCC_FLAGS = (
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--use_fast_math",
)
"""flash-attn's setup.py, the same in 1.0.9 and 2.6.3 … 2.8.3.post2 (read 2026-11-24)."""

TORCH_LIBRARIES = ("c10", "c10_cuda", "torch_cpu", "torch_cuda", "torch", "torch_python")


@dataclass(frozen=True, slots=True)
class Unit:
    """One compile: its name in messages, its source below the build directory, what runs it and what it costs."""

    name: str
    source: str
    cuda: bool
    cost: Cost
    heavy: bool = False

    @property
    def object(self) -> str:
        """Where its object file lies, relative to the build directory."""
        return f"obj/{self.name}.o"


@dataclass(frozen=True, slots=True)
class Graph:
    """All compiles of one extension and its name."""

    units: tuple[Unit, ...]
    extension: str
    flags_cuda: tuple[str, ...]
    flags_host: tuple[str, ...]
    libraries: tuple[str, ...]


def units_of(release: Release, selection: Selection, archs: Sequence[str]) -> tuple[Unit, ...]:
    """Return the units of a build, the longest first."""
    ours = generated.sources(release, selection, archs)

    def place(source: str) -> str:
        name = Path(source).name
        return f"gen/{name}" if name in ours else f"src/{source}"

    units = [Unit(Path(release.api).stem, place(release.api), False, costs.HOST)]
    if selection.stubbed:
        units.append(Unit("stubs", "gen/stubs.cpp", False, costs.STUBS))
    for kernel in selection.compiled:
        source = kernel.unit(release)
        cost = costs.kernel_cost(kernel, release, selection, archs)
        heavy = release.generation == 2 and kernel.direction is Direction.BACKWARD
        units.append(Unit(Path(source).stem, place(source), True, cost, heavy))
    return tuple(sorted(units, key=lambda unit: (-unit.cost.seconds, unit.name)))


def gencode(arch: str) -> str:
    """Return nvcc's ``-gencode`` value: ``sm_90`` → binary code for it, ``compute_75`` → PTX."""
    number = arch.partition("_")[2]
    return f"arch=compute_{number},code={arch}"


def make_graph(release: Release, selection: Selection, patches: Sequence[Patch], target: Target, archs: Sequence[str]) -> Graph:
    """Return the graph of a build (nothing is written yet)."""
    defines = (
        *TORCH_DEFINES,
        f"-DTORCH_EXTENSION_NAME={release.extension}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(target.torch.cxx11_abi)}",
        *(f"-D{macro}" for macro in selection.defines),
    )
    standard = next((patch.value for patch in patches if patch.name == "cxx-standard"), str(release.cxx_standard))
    if (target.torch.root / "include" / "ATen" / "CUDAGeneratorImpl.h").is_file():
        defines = (*defines, "-DOLD_GENERATOR_PATH")
    includes = tuple(f"-Isrc/{folder}" for folder in release.includes)
    common = (*includes, *defines, "-O3", f"-std=c++{standard}")
    codes = tuple(word for arch in archs for word in ("-gencode", gencode(arch)))
    cuda = (*TORCH_NVCC_FLAGS, *UPSTREAM_NVCC_FLAGS, "-Xcompiler", "-fPIC", *codes)
    return Graph(
        units_of(release, selection, archs),
        release.extension + target.interpreter.suffix,
        (*common, *cuda),
        (*common, "-fPIC"),
        TORCH_LIBRARIES,
    )


def lay_out(build: Path, source: Path, target: Target, toolchain: Toolchain) -> tuple[list[str], list[str]]:
    """Link everything that commands name into ``build`` and return (include, library) directories relative to it."""
    links = {"src": source, "torch": target.torch.root, "python": Path(target.interpreter.include), "cuda": toolchain.root}
    includes = ["torch/include", "torch/include/torch/csrc/api/include", "python"]
    libraries = ["torch/lib"]
    for folder in ("include", "targets/x86_64-linux/include", "targets/sbsa-linux/include"):
        place = toolchain.root / folder
        if place.is_dir() and place.resolve() != Path("/usr/include"):
            includes += [f"cuda/{folder}"] + ([f"cuda/{folder}/cccl"] if (place / "cccl").is_dir() else [])
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        if (toolchain.root / folder / "libcudart.so").exists():
            libraries.append(f"cuda/{folder}")
    for index, headers in enumerate(_wheel_includes(target)):
        links[f"nvidia{index}"] = headers
        includes.append(f"nvidia{index}")
    for name, aim in links.items():
        paths.replace_symlink(build / name, aim)
    if len(libraries) == 1:
        raise BuildFailed(
            f"{toolchain.root} has no libcudart.so to link against",
            hints=["install cuda-cudart-dev (conda) or nvidia-cuda-runtime (package index)"],
            code="no-compiler",
        )
    return includes, libraries


def _wheel_includes(target: Target) -> list[Path]:
    """Return the headers that torch's NVIDIA wheels bring (cuBLAS, cuSPARSE, cuSOLVER: torch's own headers include them)."""
    return sorted(path for path in target.torch.root.parent.glob("nvidia/*/include") if path.is_dir())


SEEDED_SINCE = (12, 9)
"""The first nvcc that takes ``--frandom-seed`` (CUDA 12.9: eyalroz/cuda-api-wrappers#733, bazel-contrib/rules_cuda#374; read 2026-11-27)."""


def ninja_text(
    graph: Graph, includes: Sequence[str], libraries: Sequence[str], toolchain: Toolchain, *, heavy: int, launcher: str = ""
) -> str:
    """Return ``build.ninja``: at most ``heavy`` of the heavy units run at once (a pool), whatever ``-j`` says.

    An object appears under its name only when it is complete: a build that dies leaves no half object behind. The link strips local
    symbols, because nvcc writes its process id into them (``tmpxft_…``) and equal builds would differ. It writes the id into the
    names of internal variables too where a unit defines nothing but template instances, as flash-attn's do, unless it is given a seed
    (``_INTERNAL_…_cu_a4fece5a_92214``; seen in two builds of 2.8.3.post2 with nvcc 13.0.88, 2026-11-27).
    """
    system = " ".join(f"-isystem {folder}" for folder in includes)
    host = shlex.quote(str(toolchain.cxx)).replace("$", "$$")
    seed = "--frandom-seed=$unit " if toolchain.cuda >= SEEDED_SINCE else ""
    search = " ".join(f"-L{folder}" for folder in libraries)
    linked = " ".join(f"-l{name}" for name in (*graph.libraries, "cudart"))
    done = "&& mv -f $out.part $out"
    prefix = f"{launcher} " if launcher else ""
    lines = [
        "ninja_required_version = 1.5",
        "pool heavy",
        f"  depth = {heavy}",
        "rule cuda",
        f"  command = {prefix}cuda/bin/nvcc -ccbin {host} {' '.join(graph.flags_cuda)} {system} --threads=1 {seed}-c $in -o $out.part {done}",
        "  description = $unit",
        "rule host",
        f"  command = {prefix}{host} {' '.join(graph.flags_host)} {system} -c $in -o $out.part {done}",
        "  description = $unit",
        "rule link",
        f"  command = {host} -shared -Wl,-s $in -o $out.part {search} {linked} {done}",
        "  description = $unit",
        "",
    ]
    for unit in graph.units:
        lines += [f"build {unit.object}: {'cuda' if unit.cuda else 'host'} {unit.source}", f"  unit = {unit.name}"]
        lines += ["  pool = heavy"] if unit.heavy else []
    objects = " ".join(sorted(unit.object for unit in graph.units))
    lines += [f"build out/{graph.extension}: link {objects}", f"  unit = {graph.extension}", f"default out/{graph.extension}", ""]
    return "\n".join(lines)


HOLLOW_BYTES = 8192
"""An object below that holds hardly any code: an empty translation unit's has 0.8 kB (gcc 12) or 5.5 (nvcc 13.0; 2026-11-27)."""


def _discard_hollow(build: Path) -> list[Path]:
    """Delete the objects in ``build`` that hold no code, as a power loss or a full disk leaves them, and return them."""
    hollow = [path for path in (build / "obj").glob("*.o") if path.stat().st_size < HOLLOW_BYTES]
    for path in hollow:
        path.unlink()
    return hollow


def check_link(extension: Path) -> None:
    """Raise `BuildFailed` when the linked extension calls a kernel that no unit and no stub defines.

    The objects without code are deleted then, all of them where none is, so that the next run makes them and the extension anew.
    """
    with mapped(extension) as data:
        undefined = [symbol.name for symbol in Elf(data, extension.name).undefined]
    missing = [name for name in undefined if "run_mha_" in name or "run_fmha_" in name]
    if missing:
        if not _discard_hollow(extension.parents[1]):
            shutil.rmtree(extension.parents[1] / "obj", ignore_errors=True)
        raise BuildFailed(
            f"{extension.name} lacks {len(missing)} kernels, such as {missing[0]}",
            why="a unit of the build came out empty, as after a full disk or an ended compiler",
            hints=["free space and memory, and run the same command again: what came out empty is compiled anew"],
            code="missing-kernels",
        )
