"""Proves an environment: imports, numbers, refusals and speed on every GPU, each in a child process of its own."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from provisioner import progress
from provisioner.capability import ComputeCapability
from provisioner.errors import UsageError
from provisioner.verifying.child_process import ChildRun, Job, run_child
from provisioner.verifying.devices import KERNELS, lost, unopened, visible_entries, without_gpu
from provisioner.verifying.expectation import Expectation, on_device, read_provenance, settle, silently_wrong
from provisioner.verifying.extensions import check_extension
from provisioner.verifying.interpreter import find_interpreter
from provisioner.verifying.judging import judge
from provisioner.verifying.receipt import Check, Outcome, Receipt, Stage
from provisioner.verifying.speed_report import slower_than_sdpa

TIMEOUT = {"quick": 300.0, "full": 900.0}
"""Seconds that one child may take; far above what is needed on a working GPU, since a first import may read gigabytes."""

CHECK_SECONDS = {"quick": 60.0, "full": 120.0}
"""Seconds that one check may take, where no kernel has to be compiled by the driver first."""


@dataclass(frozen=True, slots=True)
class _Session:
    """What stays the same for all children of one verification."""

    python: Path
    mode: str
    timeout: float
    check_seconds: float | None
    extra_paths: tuple[str, ...]
    environment: Mapping[str, str]
    lengths: tuple[int, ...]
    speed: bool

    def run(
        self,
        stage: str,
        expect: Expectation,
        *,
        device: str = "cuda",
        skip: tuple[str, ...] = (),
        shown: str | None = None,
        jit: bool = False,
    ) -> ChildRun:
        seconds = self.check_seconds or min(CHECK_SECONDS[self.mode], self.timeout)
        if stage == "imports":  # reads gigabytes from a cold disk, whatever the limit of a computation
            seconds = max(seconds, CHECK_SECONDS[self.mode])
        elif self.check_seconds is None and (jit or stage == "finetuning"):
            seconds = self.timeout  # Unsloth's first step compiles: with Triton, and through torch.compile
        job = Job(stage, self.mode, device, expect, seconds, skip, self.extra_paths, self.lengths, self.speed)
        with progress.task(f"verifying: {stage}") as task:
            return run_child(
                self.python,
                job,
                timeout=self.timeout,
                environment={**self.environment, **({"CUDA_VISIBLE_DEVICES": shown} if shown is not None else {})},
                on_check=lambda name: task.advance(1, detail=name),
            )


def verify(
    python: Path,
    *,
    expectation: Expectation | None = None,
    mode: str = "quick",
    timeout: float | None = None,
    check_seconds: float | None = None,
    device: str | None = None,
    extra_paths: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    lengths: Sequence[int] = (),
    speed: bool = True,
) -> Receipt:
    """Verify the environment of ``python`` (see `find_interpreter`) and return the receipt; a fault is a failed check, never an exception.

    ``timeout`` bounds each child in seconds, ``check_seconds`` each computation. ``environment`` are variables set on activation. ``device``
    ``"cpu"`` computes on the CPU even so (for attention that runs there); None takes every GPU that ``CUDA_VISIBLE_DEVICES`` shows.
    ``extra_paths`` come first on the child's module path; ``lengths`` replace the sequence lengths of the speed runs, which ``speed`` False
    leaves out (while something else uses the GPU their times would mean nothing).
    Raise `UsageError` for an unknown mode and for what `find_interpreter` refuses.
    """
    if mode not in TIMEOUT:
        raise UsageError(f"no such mode: {mode}", hints=["quick or full"])
    started = time.monotonic()
    session = _Session(
        find_interpreter(python),
        mode,
        timeout or TIMEOUT[mode],
        check_seconds,
        tuple(map(str, extra_paths)),
        environment or {},
        tuple(lengths),
        speed,
    )
    wanted = expectation or Expectation()
    imports, import_checks = _imports(session, wanted)
    software, seen = imports[0].last("software"), imports[0].last("devices")
    versions = software.get("versions", {})
    provenance = read_provenance(software.get("provenance"))
    settled = settle(wanted, versions=versions, provenance=provenance)
    extensions = [Path(path) for path in software.get("extensions", ())]
    archs, extension_checks = check_extension(session.python, settled)
    checks = [*import_checks, *_nameless(software), *extension_checks, *lost(seen)]
    runs = list(_on_devices(session, settled, seen, checks, device, archs, versions))
    checks += [check for index, run in runs for check in judge(run, device=index)]
    attention = _attention(runs)
    checks += _claimed_attention(settled, attention)
    timings = [_timing(event, index) for index, run in runs for event in run.events if event["event"] == "timing"]
    return Receipt(
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        mode=mode,
        versions={**versions, **({"cuda": seen["torch_cuda"]} if seen.get("torch_cuda") else {})},
        devices=tuple(f"{gpu['name']} ({gpu['compute_capability']})" for gpu in seen.get("devices", ())),
        archs=archs,
        checks=tuple(checks),
        timings=tuple(timings),
        attention=attention,
        digests={path.name: _sha256(path) for path in extensions if path.is_file()},
        seconds=round(time.monotonic() - started, 2),
        warnings=(*slower_than_sdpa(timings), *unopened(seen), *_silently_wrong(settled, seen, versions)),
        machine=software.get("machine", {}),
        stages=tuple(_stage(run, index) for index, run in [*((None, run) for run in imports), *runs]),
    )


def needs_jit(archs: Sequence[str], versions: Mapping[str, str]) -> bool:
    """Say whether kernels are compiled on their first call: by the driver where there is PTX and no binary code, or because FA4 is Python.

    flash-attn 1.0.9's head dim 128 took more than 100 s that way on an H100 (measured 2026-11-24).
    """
    return "flash-attn-4" in versions or (bool(archs) and all(arch.startswith("compute_") for arch in archs))


def _imports(session: _Session, expectation: Expectation) -> tuple[list[ChildRun], list[Check]]:
    """Try every module; when one takes the process down, go on with the next in a new one. Without torch nothing else would tell anything."""
    runs: list[ChildRun] = []
    checks: list[Check] = []
    tried: tuple[str, ...] = ()
    while True:
        run = session.run("imports", expectation, skip=tried)
        runs.append(run)
        found = judge(run)
        running = run.running
        if run.finished or running is None or run.result.timed_out or running["name"] == "import torch":
            return runs, [*checks, *found]
        checks += [check for check in found if check.outcome is not Outcome.SKIPPED]  # the next process tries those
        done = (event["name"] for event in run.events if event["event"] == "begin")
        tried += tuple(name.removeprefix("import ") for name in done)


def _on_devices(
    session: _Session,
    expect: Expectation,
    seen: dict[str, Any],
    checks: list[Check],
    device: str | None,
    archs: tuple[str, ...],
    versions: dict[str, str],
) -> list[tuple[int | None, ChildRun]]:
    if (broken := _not_importable(checks, expect)) is not None:
        checks.append(Check(KERNELS, Outcome.SKIPPED, f"not run: {broken} failed"))
        return []
    if device == "cpu":
        return [(None, session.run("kernels", expect, device="cpu")), (None, session.run("libraries", expect, device="cpu"))]
    devices = seen.get("devices", ())
    if not devices:
        checks += without_gpu(expect, seen)
        return []
    runs: list[tuple[int | None, ChildRun]] = []
    version = versions.get("flash-attn", "")
    jit = needs_jit(archs or expect.archs, versions)
    proved: set[str] = set()
    count = 1 + max(gpu["index"] for gpu in devices)
    entries = visible_entries(count, os.environ.get("CUDA_VISIBLE_DEVICES"))
    for gpu in devices:
        index, entry = gpu["index"], entries[gpu["index"]]
        capability = ComputeCapability.parse(gpu["compute_capability"])
        here = on_device(replace(expect, archs=archs or expect.archs), capability, version)
        kernels = session.run("kernels", here, shown=entry, jit=jit)
        runs.append((index, kernels))
        if session.mode == "quick" and gpu["name"] in proved:
            continue  # what libraries take and how they train depends on the model of the GPU, not on the card
        failed = _failed(kernels)
        if not failed:
            proved.add(gpu["name"])
        skip = ("flash_attention_2",) if failed else ()
        runs += [(index, session.run(stage, here, shown=entry, jit=jit, skip=skip)) for stage in _later_stages(versions)]
    return runs


def _failed(run: ChildRun) -> bool:
    return any(check.outcome is Outcome.FAILED for check in judge(run))


def _later_stages(versions: Mapping[str, str]) -> tuple[str, ...]:
    return ("libraries", *(("finetuning",) if "unsloth" in versions else ()))


def _not_importable(checks: Sequence[Check], expect: Expectation) -> str | None:
    needed = {"import torch"} | ({"import flash_attn"} if expect.attention == "flash-attn" else set())
    return next((check.name for check in checks if check.name in needed and check.outcome is Outcome.FAILED), None)


def _nameless(software: dict[str, Any]) -> list[Check]:
    """Return a failed check for each package whose metadata are gone: pip, uv and transformers take it for absent, or stumble over it."""
    return [
        Check(
            f"metadata of {name}", Outcome.FAILED, "its .dist-info holds no METADATA: an install was cut off", "metadata-missing"
        )
        for name in software.get("nameless", ())
    ]


def _silently_wrong(expect: Expectation, seen: dict[str, Any], versions: dict[str, str]) -> list[str]:
    """Return a warning for what the installed release computes wrongly on one of the GPUs without saying so."""
    version = versions.get("flash-attn", "")
    capabilities = [ComputeCapability.parse(gpu["compute_capability"]) for gpu in seen.get("devices", ()) if version]
    found = (silently_wrong(on_device(expect, capability, version), version) for capability in capabilities)
    return list(dict.fromkeys(text for text in found if text))


def _stage(run: ChildRun, device: int | None) -> Stage:
    return Stage(run.stage, round(run.result.seconds, 2), round(run.loading, 2), device)


def _timing(event: dict[str, Any], device: int | None) -> dict[str, str | float | int]:
    row = {name: value for name, value in event.items() if name != "event"}
    return {**row, **({"device": device} if device is not None else {})}


def _attention(runs: Sequence[tuple[int | None, ChildRun]]) -> dict[str, str]:
    """Return library → path. Devices that differ are told apart as ``library (GPU n)``."""
    found: dict[str, str] = {}
    for index, run in runs:
        for event in run.events:
            if event["event"] == "attention":
                known = found.setdefault(event["library"], event["path"])
                if known != event["path"]:
                    found[f"{event['library']} (GPU {index})"] = event["path"]
    return found


def _claimed_attention(expect: Expectation, attention: dict[str, str]) -> list[Check]:
    """Return the failure where xformers is the path that must run and has no operator here.

    Seen on an H100 with torch 2.11+cu130 (2026-11-24): xformers 0.0.35 imports, but its kernels need libcudart.so.12 and do not load.
    """
    path = attention.get("xformers", "")
    if expect.attention != "xformers" or not path.startswith("none"):
        return []
    return [Check("attention is xformers", Outcome.FAILED, path, "no-kernel-image")]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
