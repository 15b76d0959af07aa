"""A plan as text: what was chosen and why, and the table of everything that was considered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provisioner.machine.facts import Machine
from provisioner.planning.values import Candidate, Estimates, FlashAttn, Plan, Route

WIDTH = 13
ACCEPTED_SHOWN = 12


def plan_lines(machine: Machine, plan: Plan) -> Iterator[str]:
    """Yield the lines that ``plan`` prints: the machine as planned for, the choice, and the notes."""
    yield _line("machine", machine_summary(machine))
    yield _line("recipe", plan.recipe + (f" + {', '.join(plan.overlays)}" if plan.overlays else ""))
    yield _line("flash-attn", _flash_attn(plan))
    label = f" ({plan.torch_index}, not the package index)" if plan.torch_index else ""
    cuda = f", CUDA {plan.cuda}" if plan.cuda else ", CPU only"
    yield _line("torch", f"{plan.torch}{cuda}, Python {plan.python}{label}")
    beside = [f"{name} {version}" for name, version in (("xformers", plan.xformers), ("triton", plan.triton)) if version]
    if beside:
        yield _line("beside it", ", ".join(beside))
    yield _line("attention", plan.attention)
    if plan.toolkit:
        yield _line(
            "compiler", ", ".join(filter(None, (f"nvcc {plan.toolkit}", f"C++{plan.cxx_standard}", _kernels(plan.flash_attn))))
        )
    for name, value in plan.activation.items():
        yield _line("activation", f"{name}={value}")
    if plan.driver_floor:
        yield _line("driver", f"{plan.driver_floor} or newer")
    yield _line("backend", plan.backend)
    yield _line("cost", _cost(plan.estimates))
    yield from (_line("note" if number == 0 else "", note) for number, note in enumerate(plan.notes))


def machine_summary(machine: Machine) -> str:
    """Return the machine in a line: GPUs, driver, system, glibc."""
    names: dict[str, int] = {}
    for gpu in machine.gpus:
        name = (gpu.name or "GPU") + (f" ({gpu.capability.sm})" if gpu.capability else "")
        names[name] = names.get(name, 0) + 1
    gpus = " + ".join(f"{count} × {name}" if count > 1 else name for name, count in names.items()) or "no GPU"
    driver = _driver(machine) if machine.gpus or machine.driver.version else ""
    system = machine.platform.os or machine.platform.system
    wsl = f"WSL {machine.platform.wsl}" if machine.platform.wsl in ("1", "2") else ""
    glibc = f"glibc {machine.platform.glibc}" if machine.platform.glibc else ""
    return ", ".join(part for part in (gpus, driver, system, glibc, wsl) if part)


def _driver(machine: Machine) -> str:
    if machine.driver.version:
        return f"driver {machine.driver.version}"
    return f"driver for CUDA {machine.driver.cuda}" if machine.driver.cuda else "driver not known"


def candidate_lines(candidates: Sequence[Candidate], total: int | None = None) -> Iterator[str]:
    """Yield the accepted candidates by rank, then the rejected ones by code with their number and an example."""
    accepted = [candidate for candidate in candidates if candidate.accepted]
    rejected = [candidate for candidate in candidates if not candidate.accepted]
    yield f"considered: {len(candidates)}, accepted: {len(accepted)}, rejected: {len(rejected)}"
    yield ""
    if accepted:
        width = max(len(candidate.id) for candidate in accepted[:ACCEPTED_SHOWN])
        for candidate in accepted[:ACCEPTED_SHOWN]:
            yield f"  {candidate.rank:>3}  {candidate.id:<{width}}  {_versions(candidate)}: {candidate.reason}"
        if len(accepted) > ACCEPTED_SHOWN:
            yield f"       and {len(accepted) - ACCEPTED_SHOWN} more below them"
        yield ""
    groups: dict[str, list[Candidate]] = {}
    for candidate in rejected:
        groups.setdefault(candidate.code, []).append(candidate)
    for code, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"  {len(members):>5} × {code}"
        yield f"          e.g. {members[0].id}: {members[0].reason}"


def _line(label: str, text: str) -> str:
    return f"{label:<{WIDTH}}{text}"


def _flash_attn(plan: Plan) -> str:
    found = plan.flash_attn
    if found is None:
        return "none"
    held = ", ".join(found.archs)
    if plan.route is Route.WHEEL:
        maker = f"{found.trust} wheel" if found.trust else "wheel"
        return f"{found.version}, {maker} with {held}: {found.filename}"
    if plan.route is Route.SHIM:
        kernels = (
            f"the {held} kernels of {found.filename}, compiled here" if held else "PyTorch's own kernels, nothing to compile"
        )
        return f"{found.version}, the 2.x adapter over {kernels}"
    return f"{found.version}, compiled here for {held}"


def _kernels(found: FlashAttn | None) -> str:
    if found is None or found.kernels is None:
        return ""
    kernels = found.kernels
    dims = ", ".join(str(dim) for dim in kernels.head_dims)
    return f"head dims {dims}; {', '.join(kernels.dtypes)}; {', '.join(kernels.features)}"


def _versions(candidate: Candidate) -> str:
    cuda = f" CUDA {candidate.cuda}" if candidate.cuda else ""
    return f"torch {candidate.torch}{cuda} Python {candidate.python}"


def _cost(estimates: Estimates) -> str:
    parts = [f"about {_gib(estimates.download_mib)} to download", f"{_gib(estimates.disk_mib)} on disk"]
    if estimates.build_cpu_seconds:
        minutes = max(1, round(estimates.build_cpu_seconds / 60))
        parts.append(f"{minutes} CPU-minutes to compile with up to {_gib(estimates.build_memory_mib)} a job")
    return ", ".join(parts)


def _gib(mib: int | None) -> str:
    return f"{mib / 1024:.1f} GiB" if mib is not None else "?"
