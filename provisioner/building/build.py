"""Build flash-attn for one interpreter: order → sources, selection, toolchain → graph → ninja → wheel in the wheelhouse."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner import __version__, paths, progress
from provisioner.building import ccache, generated, packing, patches, schedule, sources
from provisioner.building import graph as graphs
from provisioner.building.acceptance import accept_wheel
from provisioner.building.archs import ordered
from provisioner.building.compile import Outcome, run_graph
from provisioner.building.graph import Graph
from provisioner.building.key import BuildKey, build_key
from provisioner.building.memory import read_capacity
from provisioner.building.patches import Patch
from provisioner.building.releases import Release, find_release
from provisioner.building.schedule import Forecast, Jobs
from provisioner.building.selection import Selection, preset, select
from provisioner.building.target import Target, read_target
from provisioner.building.toolchain import Toolchain, check, find_toolchain
from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.codec import to_json
from provisioner.errors import BuildFailed
from provisioner.exclusive import exclusive
from provisioner.planning.values import KernelSelection


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What to build and with what. ``archs`` are ``sm_90`` (binary code) or ``compute_75`` (PTX).

    ``python`` is the interpreter whose torch the extension is for; ``cuda_root`` and ``cxx`` name the compilers, None looks for them;
    ``kernels`` None is the ``unsloth`` set; ``jobs`` is an upper bound; ``index_url`` is the package index that has the sdist (None: the default one).
    """

    python: Path
    archs: tuple[str, ...]
    version: str = "2.8.3.post2"
    kernels: KernelSelection | None = None
    cuda_root: Path | None = None
    cxx: str | None = None
    jobs: int | None = None
    index_url: str | None = None


@dataclass(frozen=True, slots=True)
class BuiltWheel:
    """A wheel in the wheelhouse. ``reused`` says that it was there already; seconds and MiB are of this run.

    ``cpu_seconds`` are those of the compilers, user and system.
    """

    path: Path
    sha256: str
    key: str
    version: str
    archs: tuple[str, ...]
    reused: bool
    seconds: float
    units: int
    compiled: tuple[str, ...] = ()
    peak_mib: int = 0
    retries: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order with everything looked up and checked; nothing has been fetched or compiled."""

    order: BuildOrder
    release: Release
    target: Target
    toolchain: Toolchain
    selection: Selection
    patches: tuple[Patch, ...]
    graph: Graph
    key: BuildKey

    @property
    def digest(self) -> str:
        """The build key's digest: the wheel's address."""
        return self.key.digest

    @property
    def version(self) -> str:
        """The wheel's version, local label included."""
        return f"{self.release.version}+{self.key.local_version}"


def prepare(order: BuildOrder) -> Prepared:
    """Look everything up and check it, so that what cannot work fails before the first unit (and the first download).

    Raise `UsageError` for an unknown version, kernel or arch, `BuildFailed` for a compiler, torch or headers that do not fit.
    """
    release = find_release(order.version)
    archs = ordered(order.archs)
    target = read_target(order.python)
    toolchain = find_toolchain(target, cuda_root=order.cuda_root, cxx=order.cxx)
    check(toolchain, target, release, archs)
    selection = select(release, order.kernels or preset("unsloth", release))
    departures = patches.declared(release, selection, target.torch, archs)
    graph = graphs.make_graph(release, selection, departures, target, archs)
    key = build_key(release, release.sha256, selection, departures, target, toolchain, archs)
    return Prepared(order, release, target, toolchain, selection, departures, graph, key)


def forecast_build(prepared: Prepared) -> Forecast:
    """Return what compiling everything would cost on this machine now (``--dry-run``)."""
    return schedule.forecast(prepared.graph.units, _jobs(prepared))


def build_flash_attn(order: BuildOrder, *, wheelhouse: Wheelhouse | None = None) -> BuiltWheel:
    """Return the wheel of ``order``: from the wheelhouse, or compiled now, accepted (`accept_wheel`) and stored there.

    Two processes that want the same wheel: one compiles, the other waits and takes it. An interrupted build goes on where it
    stopped. Raise what `prepare` raises, `SourceUnreachable` or `IntegrityError` for the sdist, and `BuildFailed`.
    """
    started = time.monotonic()
    store = wheelhouse or Wheelhouse()
    prepared = prepare(order)
    outcome = Outcome()

    def make() -> Entry:
        nonlocal outcome
        with _working_in(prepared) as build:
            source = _source(prepared)
            outcome = _compile(prepared, source, build)
            wheel = _pack(prepared, source, build)
            accept_wheel(wheel, prepared.target, prepared.key.archs)
            return store.store(prepared.digest, wheel, to_json(provenance(prepared)))

    entry, reused = store.obtain(prepared.digest, make)
    return BuiltWheel(
        path=entry.path,
        sha256=entry.sha256,
        key=prepared.digest,
        version=prepared.version,
        archs=prepared.key.archs,
        reused=reused,
        seconds=round(time.monotonic() - started, 2),
        units=len(prepared.graph.units),
        compiled=tuple(outcome.compiled),
        peak_mib=outcome.peak_mib,
        retries=outcome.retries,
        cpu_seconds=outcome.cpu_seconds,
    )


_PLAIN = re.compile(r"[A-Za-z0-9._/+~@%=-]+")


def build_dir(key: str) -> Path:
    """Return the directory that the build with this key works in, the same for each try.

    It lies in the cache; when that path has letters that shells, ninja or nvcc take for their own (a space, ``$``, a comma) or garble
    (non-ASCII), in a private folder of the system's temporary directory.
    """
    base = (paths.cache_dir() / "builds").resolve()
    if not _PLAIN.fullmatch(str(base)):
        base = Path("/var/tmp") / f"provision-{os.getuid()}" / "builds"
        base.parent.mkdir(mode=0o700, exist_ok=True)
        if base.parent.stat().st_uid != os.getuid():
            raise BuildFailed(f"{base.parent} belongs to somebody else", hints=["set PROVISION_CACHE_DIR to a plain path"])
    return base.resolve() / key[:16]


@contextmanager
def _working_in(prepared: Prepared) -> Iterator[Path]:
    """Yield the build directory, held against other processes of this machine; it is removed once all went well."""
    build = build_dir(prepared.digest)
    build.mkdir(parents=True, exist_ok=True)
    with exclusive(build.with_suffix(".lock"), "compiling the same"):
        yield build
        shutil.rmtree(build, ignore_errors=True)


def _source(prepared: Prepared) -> Path:
    archive = sources.fetch_sdist(prepared.release, index_url=prepared.order.index_url)
    return sources.unpack(archive, build_dir(prepared.digest).with_name(f"source-{prepared.release.sha256[:16]}"))


def _jobs(prepared: Prepared) -> Jobs:
    room = read_capacity()
    return schedule.choose_jobs(prepared.graph.units, budget_mib=room.budget_mib, cpus=room.cpus, limit=prepared.order.jobs)


def _compile(prepared: Prepared, source: Path, build: Path) -> Outcome:
    """Run the graph in ``build`` and return how it went; the extension then lies in ``build/out``."""
    for name in ("obj", "out", "gen"):
        (build / name).mkdir(parents=True, exist_ok=True)
    for name, text in generated.sources(prepared.release, prepared.selection, prepared.key.archs).items():
        _write_once(build / "gen" / name, text)
    includes, libraries = graphs.lay_out(build, source, prepared.target, prepared.toolchain)
    launcher = ccache.launcher(prepared.toolchain)
    jobs = _jobs(prepared)
    _check_space(build, schedule.forecast(prepared.graph.units, jobs))

    def write_graph(chosen: Jobs) -> None:
        text = graphs.ninja_text(prepared.graph, includes, libraries, prepared.toolchain, heavy=chosen.heavy, launcher=launcher)
        _write_once(build / "build.ninja", text)

    outcome = run_graph(build, prepared.graph.units, jobs, budget=lambda: read_capacity().budget_mib, write_graph=write_graph)
    graphs.check_link(build / "out" / prepared.graph.extension)
    return outcome


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it has this content already, so that its time tells ninja the truth."""
    if not (path.is_file() and path.read_text() == text):
        paths.write_atomic(path, text)


def _check_space(build: Path, expected: Forecast) -> None:
    free = shutil.disk_usage(build).free // 2**20
    if free < expected.temporary_mib:
        raise BuildFailed(
            f"the build needs about {expected.temporary_mib} MiB in {build.parent}, where {free} MiB are free",
            hints=["free some space, or move the cache with PROVISION_CACHE_DIR"],
            code="disk-full",
        )


def provenance(prepared: Prepared) -> dict[str, Any]:
    """Return what the wheel says of its own making (``provenance.json`` in its dist-info): the same for the same key."""
    release = prepared.release
    return {
        "schema": 1,
        "builder": f"provision {__version__}",
        "key": prepared.digest,
        "inputs": prepared.key,
        "source": {"filename": release.filename, "sha256": release.sha256, "uploaded": release.uploaded},
        "patches": prepared.patches,
        "selection": prepared.selection.kernels,
        "stubs": [kernel.unit(release) for kernel in prepared.selection.stubbed],
        "forwarded": [kernel.unit(release) for kernel in prepared.selection.forwarded],
        "flags": {"cuda": prepared.graph.flags_cuda, "host": prepared.graph.flags_host},
    }


def _pack(prepared: Prepared, source: Path, build: Path) -> Path:
    interpreter, release = prepared.target.interpreter, prepared.release
    dist_info = f"flash_attn-{prepared.version}.dist-info"
    tag = f"{interpreter.tag}-{interpreter.abi}-{interpreter.platform}"
    files = packing.python_files(source, release)
    files[prepared.graph.extension] = (build / "out" / prepared.graph.extension).read_bytes()
    for name in ("LICENSE", "AUTHORS"):
        if (source / name).is_file():
            files[f"{dist_info}/licenses/{name}"] = (source / name).read_bytes()
    files[f"{dist_info}/METADATA"] = packing.metadata(source, release, prepared.version)
    files[f"{dist_info}/WHEEL"] = packing.wheel_file(tag)
    files[f"{dist_info}/provenance.json"] = to_json(provenance(prepared)).encode()
    progress.note(f"packing flash_attn {prepared.version}")
    path = build / "out" / f"flash_attn-{prepared.version}-{tag}.whl"
    return packing.write_wheel(path, dist_info, files, executable=[prepared.graph.extension])
