"""What is wrong with the memory of a machine's GPUs and with that of single processes; the thresholds are judgement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.memory import settings
from provisioner.diagnosing.memory.devices import Device, Holder
from provisioner.diagnosing.memory.observed import Observed, TorchDevice, TorchMemory
from provisioner.diagnosing.memory.training import Sink, band, peak

GIB = 2**30
SMALL = GIB
"""Less than this unused memory is not worth a word."""

CRUMBS = 0.5
"""Fragmentation from which the allocator's unused memory counts as crumbs."""

UNACCOUNTED = 0.10
CONTEXT_ONLY = 0.75 * GIB
"""A process that holds no more than this holds little beyond a context (see `training.CONTEXT`)."""


def judge(devices: Sequence[Device], *, wsl: bool = False) -> Iterator[Candidate]:
    """Yield what is wrong on the GPUs and in the processes that hold their memory."""
    seen: set[int] = set()
    for device in devices:
        yield from _unaccounted(device)
        yield from _contexts(device)
        for holder in device.holders:
            if holder.pid not in seen:
                seen.add(holder.pid)
                yield from _process(holder, wsl=wsl)


def _unaccounted(device: Device) -> Iterator[Candidate]:
    hidden = device.unaccounted - (device.reserved or 0)
    if hidden > UNACCOUNTED * device.total:
        title = f"GPU {device.index}: {hidden / GIB:.1f} GiB belong to processes that cannot be seen from here"
        evidence = (f"{device.used / GIB:.1f} GiB in use, {len(device.holders)} processes listed",)
        fix = Fix("ask on the host: another container, a virtual GPU's neighbour or Windows' desktop holds it", "nvidia-smi")
        yield Candidate("memory-of-unseen-processes", 93, Severity.WARNING, title, evidence, fix)


def _contexts(device: Device) -> Iterator[Candidate]:
    idle = [holder for holder in device.holders if holder.used is not None and holder.used <= CONTEXT_ONLY]
    if len(idle) > 1:
        held = sum(holder.used or 0 for holder in idle) / GIB
        title = f"GPU {device.index}: {len(idle)} processes hold little more than a CUDA context each, {held:.1f} GiB together"
        fix = Fix("end those that do nothing: notebooks kept alive, ranks that touch GPU 0", f"nvidia-smi -i {device.index}")
        yield Candidate("cuda-contexts", 95, Severity.INFO, title, tuple(_named(holder) for holder in idle[:5]), fix)


def _process(holder: Holder, *, wsl: bool) -> Iterator[Candidate]:
    where = f" (process {holder.pid})"
    torch = holder.observed.torch if holder.observed else None
    real = torch.settings if torch else None
    variables = holder.observed.variables if holder.observed else holder.variables or {}
    yield from settings.judge(variables, torch=torch.version if torch else None, wsl=wsl, where=where, real=real)
    if torch is not None:
        yield from fragmentation(torch, where)
    if holder.silent:
        title = f"process {holder.pid} is observed but does not answer: its interpreter lock is held in C code"
        fix = Fix("see what it waits for", f"provision doctor --pid {holder.pid}")
        yield Candidate("process-silent", 66, Severity.WARNING, title, (_named(holder),), fix)


def fragmentation(torch: TorchMemory, where: str = "") -> Iterator[Candidate]:
    """Yield a finding for each GPU on which a process holds much memory that its own tensors cannot have in one piece."""
    for device in torch.devices:
        if device.unused >= max(SMALL, device.reserved // 10):
            yield _crumbs(device, where, torch) if device.fragmentation >= CRUMBS else _cached(device, where)


def _numbers(device: TorchDevice) -> tuple[str, ...]:
    return (
        f"allocated {device.allocated / GIB:.2f}, reserved {device.reserved / GIB:.2f}, unused {device.unused / GIB:.2f} GiB "
        f"in {device.segments_total} segments",
        f"the largest free piece is {device.largest_free / GIB:.2f} GiB: {device.fragmentation:.0%} of the unused memory is crumbs",
    )


def _crumbs(device: TorchDevice, where: str, torch: TorchMemory) -> Candidate:
    title = f"GPU {device.index}: {device.unused / GIB:.1f} GiB are reserved but in crumbs, none above {device.largest_free / GIB:.2f} GiB{where}"
    if torch.settings.get("expandable_segments"):
        text = "expandable segments are on already: use a fixed padding length, or packing"
    else:
        text = "expandable segments (Unsloth sets them on Linux by itself: import unsloth before torch), a fixed padding length, or packing"
    return Candidate("memory-fragmented", 55, Severity.WARNING, title, _numbers(device), Fix(text), source="pytorch#35901")


def _cached(device: TorchDevice, where: str) -> Candidate:
    title = f"GPU {device.index}: torch keeps {device.unused / GIB:.1f} GiB that no tensor holds{where}: its own tensors can have it, other processes cannot"
    fix = Fix("harmless for this process; torch.cuda.empty_cache() gives it back to others")
    return Candidate("memory-cached", 96, Severity.INFO, title, _numbers(device), fix)


def _named(holder: Holder) -> str:
    used = "?" if holder.used is None else f"{holder.used / GIB:.2f}"
    return f"pid {holder.pid} ({holder.user or 'unknown user'}): {used} GiB, {holder.command or 'not visible from here'}"


def ended(one: Observed) -> Candidate:
    """Return the finding about a process that ended out of memory, as it left itself described."""
    torch = one.torch or TorchMemory()
    evidence = ((one.error or "").splitlines()[:1] or [""])[0][:300]
    worst = max(torch.devices, key=lambda device: device.reserved, default=None)
    numbers = _numbers(worst) if worst else ()
    title = f"process {one.pid} ended out of memory" + (f" with {worst.allocated / GIB:.1f} GiB in its tensors" if worst else "")
    fix = Fix("predict what the run needs, sink by sink", "provision doctor --memory --model config.json")
    return Candidate("cuda-out-of-memory", 56, Severity.WARNING, title, (evidence, *numbers), fix)


def predicted(sinks: tuple[Sink, ...], devices: Sequence[Device]) -> Iterator[Candidate]:
    """Yield whether a predicted run fits the GPU with the most free memory, and what is largest where it does not."""
    if not devices:
        return
    best = max(devices, key=lambda device: device.free)
    need, (low, high) = peak(sinks), band(sinks)
    if high <= best.free:
        return
    largest = sorted((sink for sink in sinks if sink.peak and not sink.host), key=lambda sink: -sink.size)[:3]
    evidence = tuple(f"{sink.title}: {sink.size / GIB:.1f} GiB; {sink.remedy}" for sink in largest)
    numbers = (
        f"{low / GIB:.1f} to {high / GIB:.1f} GiB are expected, {best.free / GIB:.1f} of {best.total / GIB:.1f} GiB are free"
    )
    fix = Fix(f"first {largest[0].title}: {largest[0].remedy}")
    if low > best.total:
        yield Candidate(
            "run-exceeds-memory", 54, Severity.ERROR, f"the run does not fit GPU {best.index}: {numbers}", evidence, fix
        )
    elif need > best.free:
        yield Candidate(
            "run-exceeds-free-memory", 54, Severity.WARNING, f"the run hardly fits what is free: {numbers}", evidence, fix
        )
    else:
        yield Candidate("run-near-limit", 94, Severity.WARNING, f"the run may just fit: {numbers}", evidence, fix)
