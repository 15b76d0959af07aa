"""What a build costs: upstream's default one against ours for one architecture, on the same units, machine and run.

    python benchmarks/build.py --python ENV/bin/python --arch sm_90 [--quick] [--jobs N] [--unsloth BUILD.json] [--json FILE]

Measured: one unit of each kind (forward, backward, split; head dim 128, bf16, causal) as upstream compiles it and as ours, one right after
the other, the host code, and a whole build of ours for a model (Llama 3 8B: head dim 128, bf16) from nothing to the wheel.
Extrapolated, and marked ``~``: the sums over all units, by the proportions of `provisioner.building.costs` scaled to the measured
unit of each kind. Upstream's default build repeats the device compile for four architectures (setup.py of 2.8.3.post2: ``80;90;100;120``).
``--unsloth`` names what ``provision build --kernels unsloth --json`` printed on the same machine: a measured row in place of the extrapolated
one. ``--quick`` leaves the whole build away; ``--jobs`` measures so many units at once. The figures are CPU-seconds, user and system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from provisioner.building import costs, generated, graph, sources
from provisioner.building.build import BuildOrder, BuiltWheel, Prepared, build_flash_attn, prepare
from provisioner.building.compile import ninja_program
from provisioner.building.selection import Kernel, Selection, all_kernels, for_model, preset, select
from provisioner.building.wheelhouse import Wheelhouse
from provisioner.planning.values import KernelSelection

LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
    "attention_dropout": 0.0,
}
"""What Meta-Llama-3-8B's config.json says of attention."""

UPSTREAM_ARCHS = 4
DIM, DTYPE, CAUSAL = 128, "bf16", True
CHILD = """
import resource, subprocess, sys
done = subprocess.run(["sh", "-c", sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(done.stderr[-2000:] if done.returncode else 0)
"""


@dataclass(frozen=True)
class Measured:
    """One compile: CPU-seconds, MiB of its largest process, bytes of the object."""

    cpu_seconds: float
    peak_mib: float
    object_bytes: int


@dataclass(frozen=True)
class Row:
    """One build in the table; ``units`` are its kernels' files, host code beside. What was extrapolated is said by ``~``."""

    what: str
    units: int
    cpu_seconds: float
    wall: str
    peak_gib: float
    wheel_mib: str
    extrapolated: bool = True


def say(text: str) -> None:
    """Print progress to stderr; the table alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def lay_out(prepared: Prepared, source: Path, folder: Path) -> dict[str, str]:
    """Write what the units of ``prepared`` need into ``folder`` and return unit → command."""
    for name in ("obj", "out", "gen"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    includes, libraries = graph.lay_out(folder, source, prepared.target, prepared.toolchain)
    for name, text in generated.sources(prepared.release, prepared.selection, prepared.key.archs).items():
        (folder / "gen" / name).write_text(text)
    (folder / "build.ninja").write_text(graph.ninja_text(prepared.graph, includes, libraries, prepared.toolchain, heavy=1))
    listed = subprocess.run([ninja_program(), "-t", "commands"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return {
        unit.name: next(line for line in listed.splitlines() if f" -o {unit.object}.part " in line)
        for unit in prepared.graph.units
    }


def measure(folder: Path, unit: str, command: str) -> Measured:
    """Compile one unit and return what it took."""
    done = subprocess.run([sys.executable, "-c", CHILD, command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{unit} does not compile: {done.stderr}")
    seconds, peak = map(float, done.stdout.split())
    found = Measured(seconds, peak, (folder / "obj" / f"{unit}.o").stat().st_size)
    say(f"  {folder.name:9} {unit:42} {seconds:7.1f} CPU-s {peak / 1024:5.1f} GiB {found.object_bytes / 2**20:5.1f} MiB")
    return found


def as_upstream(prepared: Prepared) -> Prepared:
    """Return the build of everything with upstream's own units: no generated file stands in for one."""
    units = tuple(
        replace(unit, source=f"src/{kernel.unit(prepared.release)}", cost=expected(kernel, prepared.selection, None))
        for unit, kernel in ((unit, kernel_of(prepared, unit.name)) for unit in prepared.graph.units)
        if kernel is not None
    )
    return replace(prepared, graph=replace(prepared.graph, units=units))


def kernel_of(prepared: Prepared, unit: str) -> Kernel | None:
    """Return the kernel that ``unit`` defines, None for host code."""
    return next((kernel for kernel in all_kernels(prepared.release) if Path(kernel.unit(prepared.release)).stem == unit), None)


def expected(kernel: Kernel, selection: Selection, archs: tuple[str, ...] | None) -> costs.Cost:
    """Return the model's cost of one unit for one architecture; ``archs`` None: with every block shape."""
    return costs.unit_cost(str(kernel.direction), kernel.head_dim, bool(kernel.causal), selection.kernels.features, 1, archs)


class Side:
    """One way of compiling, with the measured units that scale its forecast."""

    def __init__(self, name: str, prepared: Prepared, archs: tuple[str, ...] | None) -> None:
        self.name, self.prepared, self.archs = name, prepared, archs
        self.measured: dict[str, Measured] = {}

    def sample(self, direction: str) -> Kernel | None:
        """Return the kernel of ``direction`` that is measured, None when this side has none of that kind."""
        kinds = (kernel for kernel in self.prepared.selection.compiled if str(kernel.direction) == direction)
        return next((one for one in kinds if (one.head_dim, one.dtype, one.causal) == (DIM, DTYPE, CAUSAL)), None)

    def total(self, selection: Selection, per_arch: int, host: float) -> float:
        """Return the CPU-seconds of all units of ``selection``, the host code once."""
        return host + sum(self._each(kernel, selection)[0] for kernel in selection.compiled) * per_arch

    def object_bytes(self, selection: Selection) -> float:
        """Return the size of all objects of ``selection``."""
        return sum(self._each(kernel, selection)[1] for kernel in selection.compiled)

    def _each(self, kernel: Kernel, selection: Selection) -> tuple[float, float]:
        sample = self.sample(str(kernel.direction))
        assert sample is not None
        measured = self.measured[str(kernel.direction)]
        model = expected(kernel, selection, self.archs).seconds / expected(sample, self.prepared.selection, self.archs).seconds
        return measured.cpu_seconds * model, measured.object_bytes * model


def order_for(options: argparse.Namespace, kernels: KernelSelection) -> BuildOrder:
    """Return the order of one build."""
    return BuildOrder(options.python, (options.arch,), kernels=kernels, cuda_root=options.cuda_home)


def build_model(options: argparse.Namespace, scratch: Path) -> BuiltWheel:
    """Build the wheel for the model from nothing and return it."""
    say("a whole build for Llama 3 8B")
    os.environ["CCACHE_DISABLE"] = "1"
    return build_flash_attn(order_for(options, for_model(LLAMA_3_8B)), wheelhouse=Wheelhouse(scratch / "wheelhouse"))


def main() -> None:
    """Measure, extrapolate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter with the torch to build for")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--cuda-home", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--unsloth", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="provision-benchmark-") as folder:
        run(options, Path(folder))


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Do everything in ``scratch``."""
    release = prepare(order_for(options, KernelSelection("unsloth"))).release
    everything = as_upstream(prepare(order_for(options, preset("full", release))))
    upstream = Side("upstream", everything, None)
    ours = Side("ours", prepare(order_for(options, preset("unsloth", release))), (options.arch,))
    os.environ["PROVISION_CACHE_DIR"] = str(scratch / "cache")
    source = sources.unpack(sources.fetch_sdist(release), scratch / "source")
    commands = {side.name: lay_out(side.prepared, source, scratch / side.name) for side in (upstream, ours)}
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {}
        for direction, side in product(("fwd", "bwd", "split"), (upstream, ours)):
            if kernel := side.sample(direction):
                unit = Path(kernel.unit(release)).stem
                running[direction, side] = pool.submit(measure, scratch / side.name, unit, commands[side.name][unit])
        host = pool.submit(measure, scratch / "ours", "flash_api", commands["ours"]["flash_api"])
        for (direction, side), found in running.items():
            side.measured[direction] = found.result()
    built = None if options.quick else build_model(options, scratch)
    rows = table(upstream, ours, host.result().cpu_seconds, built)
    if options.unsloth:
        document = json.loads(options.unsloth.read_text())["build"]
        rows[2] = whole_build("ours, unsloth", len(ours.prepared.selection.compiled), document, Path(document["path"]))
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")


def whole_build(what: str, units: int, figures: dict[str, Any], wheel: Path) -> Row:
    """Return the row of a build that was carried out."""
    size, wall = f"{wheel.stat().st_size / 2**20:.1f}", f"{figures['seconds'] / 60:.1f} min"
    return Row(what, units, figures["cpu_seconds"], wall, figures["peak_mib"] / 1024, size, extrapolated=False)


def table(upstream: Side, ours: Side, host: float, built: BuiltWheel | None) -> list[Row]:
    """Return the rows: upstream's default build first."""
    release, cpus = ours.prepared.release, len(os.sched_getaffinity(0))
    rows = []
    packed = 0.0
    llama = select(release, for_model(LLAMA_3_8B))
    if built:
        packed = built.path.stat().st_size / ours.object_bytes(llama)
    for side, name, selection, archs in (
        (upstream, f"upstream, {UPSTREAM_ARCHS} archs", upstream.prepared.selection, UPSTREAM_ARCHS),
        (upstream, "upstream, 1 arch", upstream.prepared.selection, 1),
        (ours, "ours, unsloth", ours.prepared.selection, 1),
    ):
        seconds = side.total(selection, archs, host)
        peak = max(one.peak_mib for one in side.measured.values()) / 1024
        size = f"~{side.object_bytes(selection) * archs * packed / 2**20:.0f}" if packed else "?"
        rows.append(Row(name, len(selection.compiled), seconds, f"~{seconds / cpus / 60:.0f} min", peak, size))
    if built:
        rows.append(whole_build("ours, Llama 3 8B", len(llama.compiled), asdict(built), built.path))
    return rows


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"| build | units | CPU-seconds | fewer | wall on {len(os.sched_getaffinity(0))} CPUs | peak GiB | wheel MiB |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        mark = "~" if row.extrapolated else ""
        ratio = rows[0].cpu_seconds / row.cpu_seconds
        print(
            f"| {row.what} | {row.units} | {mark}{row.cpu_seconds:.0f} | {ratio:.1f} × | {row.wall} | {row.peak_gib:.1f} | {row.wheel_mib} |"
        )


if __name__ == "__main__":
    main()
