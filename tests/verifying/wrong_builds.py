"""flash-attn builds that are wrong on purpose, really compiled: what verification must catch on a GPU, each with its code.

The build engine compiles and links them as it does any order; a fault is an edit of a kernel header, another architecture, or an object left
out. The units of the right build are compiled once and shared: a fault compiles only what it changes (head dim 64, bf16, two units).

    python -m tests.verifying.wrong_builds FOLDER [--python PATH] [--jobs N] [--only NAME …]

makes ``FOLDER/NAME``, an environment of its own for each fault, that sees the torch of the interpreter given and one flash-attn.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
import venv
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.building import build as engine
from provisioner.building import graph as graphs
from provisioner.building import packing, sources
from provisioner.building.build import BuildOrder, Prepared, prepare, provenance
from provisioner.building.graph import Unit
from provisioner.codec import to_json
from provisioner.errors import BuildFailed
from provisioner.planning.values import KernelSelection

KERNELS = KernelSelection("custom", (64,), ("bf16",), ("backward", "varlen", "uneven"))
ARCHS = ("sm_90",)

FORWARD, BACKWARD = "flash_fwd_hdim", "flash_bwd_hdim"
"""How the names of the units begin that a fault changes; the split-key forward (``flash_fwd_split…``) stays right."""

_HEADERS = "csrc/flash_attn/src"
_ENTRY = "    const int m_block = blockIdx.x;\n    // The block index for the batch.\n    const int bidb = blockIdx.y;\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong build. ``old`` becomes ``new`` in ``header``, and the units whose names begin with ``changes`` are compiled anew.

    ``archs`` replace the architecture for all units; ``dropped`` is a unit whose object is left out of the link. ``code`` is the finding
    that verification must end in, None for the right build, which shows that the others fail for their fault alone.
    """

    name: str
    code: str | None
    header: str = ""
    old: str = ""
    new: str = ""
    changes: str = ""
    archs: tuple[str, ...] = ARCHS
    dropped: str | None = None


RIGHT = Fault("right", None)
FAULTS = (
    RIGHT,
    Fault(
        "wrong-scale",
        "wrong-numbers",
        "flash_fwd_kernel.h",
        "acc_o, params.scale_softmax_log2)",
        "acc_o, 1.05f * params.scale_softmax_log2)",
        FORWARD,
    ),
    Fault("dropped-backward-term", "wrong-numbers", "flash_bwd_kernel.h", "? dp - d : d)", "? dp : d)", BACKWARD),
    Fault(
        "endless-loop",
        "hang",
        "flash_fwd_kernel.h",
        _ENTRY,
        _ENTRY + "    if (m_block == 0) { while (true) { __nanosleep(1000); } }\n",
        FORWARD,
    ),
    Fault(
        "wild-write",
        "illegal-memory-access",
        "flash_fwd_kernel.h",
        _ENTRY,
        _ENTRY + "    if (threadIdx.x == 0) { *reinterpret_cast<volatile int *>(64) = m_block; }\n",
        FORWARD,
    ),
    Fault("stub-arch", "stub-kernels", archs=("compute_75",)),
    Fault("missing-symbol", "undefined-symbol-abi-mismatch", dropped="flash_bwd_hdim64_bf16_causal_sm80"),
)


def build_all(python: Path, folder: Path, *, jobs: int = 1, only: Sequence[str] = ()) -> dict[str, Path]:
    """Compile the faults with at most ``jobs`` units at once and return the interpreter of each one's environment.

    The sdist comes from where the user's pip finds packages. Raise what `provisioner.building.build.prepare` raises.
    """
    prepared = prepare(BuildOrder(python, ARCHS, kernels=KERNELS))
    archive = sources.fetch_sdist(prepared.release)
    source = sources.unpack(archive, folder / "source")
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    # The stub kernels have empty bodies: they compile in seconds beside the right build. The others wait for its objects.
    alone = [fault for fault in chosen if fault.archs != ARCHS]
    with ThreadPoolExecutor(max(1, len(chosen))) as pool:
        early = [pool.submit(_build, prepared, source, folder, fault, jobs // 4) for fault in alone]
        _build(prepared, source, folder, RIGHT, jobs)
        late = [pool.submit(_build, prepared, source, folder, fault, 2) for fault in chosen if fault not in (*alone, RIGHT)]
        for running in (*early, *late):
            running.result()
    return {fault.name: _environment(prepared, source, folder, fault) for fault in chosen}


def _build(prepared: Prepared, source: Path, folder: Path, fault: Fault, jobs: int) -> None:
    """Compile and link one fault in ``folder/build-NAME``; the extension then lies in ``out`` there."""
    started = time.monotonic()
    build = folder / f"build-{fault.name}"
    changed = _changed(prepared, fault, max(1, jobs))
    if fault is not RIGHT and fault.archs == ARCHS and not build.exists():
        _share_objects(folder / "build-right", build, changed.graph.units, fault)
    tree = edited(source, build / "tree", fault, prepared.release.api) if fault.header else source
    try:
        engine._compile(changed, tree, build)
    except BuildFailed as error:  # the engine looks for kernels that nobody defines; here that is the fault
        if not (fault.dropped and error.code == "missing-kernels"):
            raise
    print(f"{fault.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _changed(prepared: Prepared, fault: Fault, jobs: int) -> Prepared:
    """Return the order as the fault changes it: other architectures, a unit fewer."""
    graph = graphs.make_graph(prepared.release, prepared.selection, prepared.patches, prepared.target, fault.archs)
    graph = replace(graph, units=tuple(unit for unit in graph.units if unit.name != fault.dropped))
    return replace(prepared, order=replace(prepared.order, jobs=jobs), key=replace(prepared.key, archs=fault.archs), graph=graph)


def _share_objects(right: Path, build: Path, units: Sequence[Unit], fault: Fault) -> None:
    """Take over what the fault does not change; ninja finds it newer than its source and knows its command from the log."""
    (build / "obj").mkdir(parents=True)
    for unit in units:
        if not (fault.changes and unit.name.startswith(fault.changes)):
            shutil.copy2(right / unit.object, build / unit.object)
    shutil.copytree(right / "gen", build / "gen")
    shutil.copy2(right / ".ninja_log", build / ".ninja_log")


def edited(source: Path, tree: Path, fault: Fault, api: str) -> Path:
    """Return a copy of what the units need of the source tree, with the fault in it."""
    if not tree.exists():
        shutil.copytree(source / _HEADERS, tree / _HEADERS)
        shutil.copy2(source / api, tree / api)
        (tree / "csrc" / "cutlass").symlink_to(source / "csrc" / "cutlass")
        header = tree / _HEADERS / fault.header
        text = header.read_text()
        assert fault.old in text, f"{fault.header} has no {fault.old!r}"
        header.write_text(text.replace(fault.old, fault.new))
    return tree


def _environment(prepared: Prepared, source: Path, folder: Path, fault: Fault) -> Path:
    """Return the interpreter of a new environment with this flash-attn in it; torch comes from the one that it was built for."""
    root = folder / fault.name
    venv.create(root, clear=True, symlinks=True)
    (site,) = root.glob("lib/python*/site-packages")
    links = [str(Path(place)) for place in prepared.target.interpreter.site if place.endswith("-packages")]
    (site / "torch-beside.pth").write_text("\n".join(links) + "\n")
    wheel = _wheel(prepared, source, folder / f"build-{fault.name}" / "out")
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(site)
    if einops := importlib.util.find_spec("einops"):  # flash-attn requires it; the interpreter that runs this may have it
        shutil.copytree(Path(str(einops.origin)).parent, site / "einops")
    return root / "bin" / "python"


def _wheel(prepared: Prepared, source: Path, out: Path) -> Path:
    """Return the wheel with the extension in ``out``; it claims what the right one would."""
    dist_info = f"flash_attn-{prepared.version}.dist-info"
    extension = prepared.graph.extension
    files = packing.python_files(source, prepared.release)
    files[extension] = (out / extension).read_bytes()
    files[f"{dist_info}/METADATA"] = packing.metadata(source, prepared.release, prepared.version)
    files[f"{dist_info}/WHEEL"] = packing.wheel_file(f"{prepared.target.interpreter.tag}-none-any")
    files[f"{dist_info}/provenance.json"] = to_json(provenance(prepared)).encode()
    return packing.write_wheel(out / "wrong.whl", dist_info, files, executable=[extension])


def main() -> None:
    """Build what the command line names and print the interpreter of each environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], choices=[fault.name for fault in FAULTS])
    options = parser.parse_args()
    for name, python in build_all(options.python, options.folder.resolve(), jobs=options.jobs, only=options.only).items():
        print(name, python)


if __name__ == "__main__":
    main()
