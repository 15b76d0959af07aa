"""The adapter's wheel: made from this project's files in a moment, or with the kernels of flash-attn 1.0.9 compiled for one torch.

Compiling is the engine's (`provisioner.building`): it makes its own wheel of 1.0.9, kept in the wheelhouse under its build key; the
compiled module is taken from there. So another version of the adapter's Python files never compiles anything again.
"""

from __future__ import annotations

import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provisioner import __version__, codec, paths
from provisioner.adapter import sources
from provisioner.adapter.kernels import ARCHS, RELEASE, TURING, AdapterVersion, Kernels, claims
from provisioner.building import packing
from provisioner.building.build import BuildOrder, BuiltWheel, Prepared, build_flash_attn, prepare
from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.errors import UsageError

ENGINE = 1
"""Raised when the same inputs begin to make another wheel."""

MODULE = "flash_attn/_kernels109"
"""Where the compiled module lies in the package."""

_PURE_TAG = "py3-none-any"


@dataclass(frozen=True, slots=True)
class AdapterOrder:
    """Which adapter to make. ``turing109`` is compiled for ``python`` and its torch; the rest is as in `BuildOrder`.

    ``archs`` are ``sm_75``, and ``compute_75`` (PTX) to try the Turing code on a newer GPU.
    """

    version: AdapterVersion
    python: Path | None = None
    archs: tuple[str, ...] = ()
    cuda_root: Path | None = None
    cxx: str | None = None
    jobs: int | None = None
    index_url: str | None = None


def build_order(order: AdapterOrder) -> BuildOrder:
    """Return the order for the kernels of 1.0.9. Raise `UsageError` where they would not be Turing's."""
    archs = order.archs or (ARCHS[0],)
    if other := [arch for arch in archs if arch not in ARCHS]:
        raise UsageError(
            f"the adapter's kernels are not compiled for {other[0]}",
            why=f"flash-attn {RELEASE} is taken for Turing alone: newer GPUs have flash-attn 2.x itself",
            hints=["--arch sm_75", "provision build --arch " + other[0]],
            code="no-kernel",
        )
    if order.python is None:
        raise UsageError(
            "the kernels are compiled against a torch, and no interpreter is named",
            hints=["provision build --adapter turing109 --python /opt/venv/bin/python"],
            code="no-python",
        )
    return BuildOrder(order.python, archs, RELEASE, TURING, order.cuda_root, order.cxx, order.jobs, order.index_url)


def prepare_kernels(order: AdapterOrder) -> Prepared | None:
    """Return what would be compiled, looked up and checked; None where nothing is. Raise what `prepare` raises."""
    return prepare(build_order(order)) if order.version.kernels is Kernels.TURING109 else None


def make_adapter(order: AdapterOrder, *, wheelhouse: Wheelhouse | None = None) -> BuiltWheel:
    """Return the adapter's wheel, stored in the wheelhouse: the same bytes for the same order and the same ``provision``.

    Raise what `build_flash_attn` raises where kernels are compiled.
    """
    started = time.monotonic()
    store = wheelhouse or Wheelhouse()
    compiled = None
    if order.version.kernels is Kernels.TURING109:
        compiled = build_flash_attn(build_order(order), wheelhouse=store)
    record = provenance(order.version, compiled)
    key = record["key"]

    def make() -> Entry:
        with paths.scratch_dir("adapter") as scratch:
            return store.store(key, write_adapter(scratch, order.version, record, compiled), codec.to_json(record))

    entry, reused = store.obtain(key, make)
    seconds = round(time.monotonic() - started, 2)
    made = BuiltWheel(entry.path, entry.sha256, key, str(order.version), (), reused, seconds, units=0)
    if compiled is None:
        return made
    taken = {"path": made.path, "sha256": made.sha256, "key": key, "version": made.version, "seconds": seconds}
    return replace(compiled, **taken, reused=reused and compiled.reused)


def provenance(version: AdapterVersion, compiled: BuiltWheel | None = None) -> dict[str, Any]:
    """Return what the wheel says of its own making (``provenance.json`` in its dist-info).

    ``adapter`` marks it as ours and names the kernels, ``selection`` is what must be right (`claims`), ``inputs.archs`` what is compiled in.
    """
    inputs = {
        "engine": ENGINE,
        "provision": __version__,
        "version": str(version),
        "sources_sha256": sources.sources_sha256(),
        "archs": list(compiled.archs) if compiled else [],
        "kernels_key": compiled.key if compiled else None,
        "kernels_sha256": compiled.sha256 if compiled else None,
    }
    return {
        "schema": 1,
        "builder": f"provision {__version__}",
        "key": codec.digest(inputs),
        "adapter": str(version.kernels),
        "inputs": inputs,
        "selection": claims(),
    }


def write_adapter(folder: Path, version: AdapterVersion, record: dict[str, Any], compiled: BuiltWheel | None) -> Path:
    """Write the wheel into ``folder`` and return it."""
    dist_info = f"flash_attn-{version}.dist-info"
    files = sources.package_files(version)
    tag, requirement, executable = _PURE_TAG, "torch>=2.6", []
    if compiled is not None:
        kernels = _kernels_of(compiled, dist_info)
        files |= kernels
        executable = [name for name in kernels if name.endswith(".so")]
        tag = "-".join(compiled.path.name.removesuffix(".whl").split("-")[2:])
        requirement = f"torch=={_torch_series(compiled)}.*"
    files[f"{dist_info}/METADATA"] = metadata(version, requirement)
    files[f"{dist_info}/WHEEL"] = packing.wheel_file(tag, pure=compiled is None)
    files[f"{dist_info}/top_level.txt"] = b"flash_attn\n"  # by which Python 3.10 tells whose package it is; transformers asks
    files[f"{dist_info}/provenance.json"] = codec.to_json(record).encode()
    return packing.write_wheel(folder / f"flash_attn-{version}-{tag}.whl", dist_info, files, executable=executable)


def _kernels_of(compiled: BuiltWheel, dist_info: str) -> dict[str, bytes]:
    """Return the compiled module of the 1.0.9 wheel at its place in the package, its licence and authors, and what it was built for."""
    found = {
        f"{MODULE}/__init__.py": b'"""The compiled kernels of flash-attn 1.0.9."""\n',
        f"{MODULE}/build.json": codec.to_json(
            {"archs": compiled.archs, "key": compiled.key, "version": compiled.version}
        ).encode(),
    }
    with zipfile.ZipFile(compiled.path) as bundle:
        for name in bundle.namelist():
            if name.endswith(".so"):
                found[f"{MODULE}/{Path(name).name}"] = bundle.read(name)
            elif "/licenses/" in name:
                found[f"{dist_info}/licenses/flash-attn-{RELEASE}/{Path(name).name}"] = bundle.read(name)
    return found


def _torch_series(compiled: BuiltWheel) -> str:
    """Return major and minor version of the torch that the kernels were compiled for: C++ names change with each."""
    from provisioner.wheels.filename import WheelName

    series = WheelName.torch_of(compiled.version)
    assert series is not None, f"{compiled.version} does not name its torch"
    return series


def metadata(version: AdapterVersion, requirement: str) -> bytes:
    """Return METADATA: no claim to be upstream's, no requirement but torch."""
    inside = {
        Kernels.ATEN: "PyTorch's own attention kernels",
        Kernels.TURING109: f"the Turing kernels of flash-attn {RELEASE}, and PyTorch's own where those end",
    }[version.kernels]
    lines = (
        "Metadata-Version: 2.1",
        "Name: flash-attn",
        f"Version: {version}",
        f"Summary: Adapter: the functions of flash-attn {version.base} over {inside}",
        "License: BSD-3-Clause",
        "Requires-Python: >=3.10",
        f"Requires-Dist: {requirement}",
        "",
        f"Made by provision {__version__}; not Dao-AILab's flash-attn. `flash_attn.kernels()` says which kernels a call takes.",
        "What neither set has (softcap, ALiBi, bfloat16 below compute capability 8.0) raises an error.",
        "",
    )
    return "\n".join(lines).encode()
