"""``provision doctor --memory``: each GPU and who holds it, torch inside observed processes, and what a training run will need."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from provisioner.diagnosing.candidates import Candidate
    from provisioner.diagnosing.memory.devices import Device, Holder
    from provisioner.diagnosing.memory.largest_block import Probed
    from provisioner.diagnosing.memory.observed import Observed
    from provisioner.diagnosing.memory.training import Sink, Training

F = TypeVar("F", bound=Callable[..., Any])
GIB = 2**30
RECENT_SECONDS = 24 * 3600
"""How old the record of a process that ended out of memory may be to be shown."""


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """What was asked about memory; all None or false when nothing was."""

    wanted: bool
    probe: bool
    model: str | None
    batch: int
    length: int
    lora_rank: int
    weights: str | None
    optimizer: str
    checkpointing: str
    loss: str
    attention: str
    vllm_share: float


def memory_options(function: F) -> F:
    """Add ``--memory`` and what belongs to it; the command gets ``memory: MemoryOptions``."""

    @click.option(
        "--memory", "wanted", is_flag=True, help="Show who holds each GPU's memory, and torch's allocator where observed."
    )
    @click.option("--probe", is_flag=True, help="Also allocate the largest block that can be had, and give it back.")
    @click.option(
        "--model", metavar="CONFIG", help="Also predict a training run of this model: its config.json, folder, or cached name."
    )
    @click.option("--batch", metavar="N", type=click.IntRange(1), default=1, help="Sequences per step and GPU (1).")
    @click.option(
        "--length", metavar="N", type=click.IntRange(1), default=2048, help="Tokens per sequence, padding included (2048)."
    )
    @click.option(
        "--lora-rank", metavar="N", type=click.IntRange(0), default=16, help="Rank of LoRA, 0 for full fine-tuning (16)."
    )
    @click.option(
        "--weights", type=click.Choice(["4bit", "8bit", "16bit"]), help="How the weights are loaded (4bit; 16bit with rank 0)."
    )
    @click.option(
        "--optimizer", type=click.Choice(_optimizers()), default="adamw_8bit", help="As in TrainingArguments (adamw_8bit)."
    )
    @click.option(
        "--checkpointing", type=click.Choice(["unsloth", "torch", "none"]), default="unsloth", help="Of activations (unsloth)."
    )
    @click.option(
        "--loss", type=click.Choice(["fused", "full"]), default="fused", help="Logits in chunks, or all at once (fused)."
    )
    @click.option(
        "--attention",
        type=click.Choice(["fused", "eager"]),
        default="fused",
        help="flash-attn, xformers or SDPA; or none of them (fused).",
    )
    @click.option(
        "--vllm-share",
        metavar="SHARE",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="gpu_memory_utilization under fast_inference (none).",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        taken = {name: kwargs.pop(name) for name in MemoryOptions.__dataclass_fields__}
        taken["wanted"] = bool(taken["wanted"] or taken["probe"] or taken["model"])
        return function(*args, memory=MemoryOptions(**taken), **kwargs)

    return wrapper  # type: ignore[return-value]


def _optimizers() -> tuple[str, ...]:
    """The names of `training.OPTIMIZERS`, stated here so that ``--help`` does not import the formulae; a test compares them."""
    return (
        "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_8bit",
        "adafactor", "sgd",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What is shown: the GPUs, the processes that ended out of memory, the prediction, and what could be allocated.

    ``uncounted`` is what of the model the prediction leaves out.
    """

    devices: tuple[Device, ...]
    ended: tuple[Observed, ...]
    prediction: tuple[Sink, ...]
    expected: tuple[int, int] | None
    probed: Probed | None
    uncounted: tuple[str, ...] = ()


def report(options: MemoryOptions, python: Path | None) -> tuple[MemoryReport, tuple[Candidate, ...]]:
    """Return the report and what is wrong; ``python`` is needed for the probe only."""
    from provisioner.diagnosing.memory import judging, largest_block, observed, training
    from provisioner.diagnosing.memory.devices import devices
    from provisioner.machine.wsl import wsl_of_kernel

    found = devices()
    ended = tuple(observed.ended(observed.folder(), since=time.time() - RECENT_SECONDS))[:5]
    sinks, uncounted = _prediction(options, found)
    probed = largest_block.probe(python) if options.probe and python else None
    candidates = [
        *judging.judge(found, wsl=wsl_of_kernel(os.uname().release) != "no"),
        *map(judging.ended, ended),
        *(judging.predicted(sinks, found) if sinks else ()),
        *(largest_block.judge(probed) if probed else ()),
    ]
    return MemoryReport(found, ended, sinks, training.band(sinks) if sinks else None, probed, uncounted), tuple(candidates)


def _prediction(options: MemoryOptions, devices: tuple[Device, ...]) -> tuple[tuple[Sink, ...], tuple[str, ...]]:
    from provisioner.diagnosing.memory import training
    from provisioner.diagnosing.memory.shape import load_shape

    if options.model is None:
        return (), ()
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    card = max((device.total for device in devices), default=None)
    shape = load_shape(options.model, home)
    return training.sinks(shape, _training(options, card)), shape.uncounted


def _training(options: MemoryOptions, card: int | None) -> Training:
    from provisioner.diagnosing.memory.training import Checkpointing, Loss, Training, Weights

    default = Weights.FOUR_BIT if options.lora_rank else Weights.SIXTEEN_BIT
    return Training(
        batch=options.batch,
        length=options.length,
        rank=options.lora_rank,
        weights=Weights(options.weights) if options.weights else default,
        optimizer=options.optimizer,
        checkpointing=Checkpointing(options.checkpointing),
        loss=Loss(options.loss),
        eager=options.attention == "eager",
        vllm_share=options.vllm_share,
        card=card,
    )


def report_lines(shown: MemoryReport) -> Iterator[str]:
    """Yield the report as text, GiB throughout."""
    for device in shown.devices:
        yield from _device_lines(device)
    if not shown.devices:
        yield "No GPU answers here."
    if shown.probed is not None:
        yield from _probed_lines(shown.probed)
    if shown.prediction and shown.expected:
        yield from _prediction_lines(shown.prediction, shown.expected)
    if shown.uncounted:
        yield f"  not counted: {', '.join(shown.uncounted)}"


def _device_lines(device: Device) -> Iterator[str]:
    yield f"GPU {device.index}  {device.name}: {_gib(device.used)} used, {_gib(device.free)} free, {_gib(device.total)} total (GiB, {device.source})"
    for holder in device.holders:
        used = _gib(holder.used) if holder.used is not None else "     ?"
        yield f"  {used}  pid {holder.pid}  {holder.user or '?'}  {holder.command or 'not visible from here'}"
        yield from _torch_lines(holder, device)
    if device.reserved:
        yield f"  {_gib(device.reserved)}  the driver itself"
    if (rest := device.unaccounted - (device.reserved or 0)) > GIB // 4:
        yield f"  {_gib(rest)}  in no process that can be seen here"


def _torch_lines(holder: Holder, device: Device) -> Iterator[str]:
    """torch's own counters, its allocator's settings, and what is left: the context, libraries and NCCL."""
    torch = holder.observed.torch if holder.observed else None
    for one in device.torch_of(holder):
        context = f", {_gib(holder.used - one.reserved).strip()} context and libraries" if holder.used else ""
        yield (
            f"          torch: {_gib(one.allocated).strip()} allocated, {_gib(one.reserved).strip()} reserved, "
            f"{_gib(one.unused).strip()} unused ({one.fragmentation:.0%} of it crumbs){context}"
        )
    if torch and torch.settings:
        on = ", ".join(
            f"{name}={torch.settings[name]}" for name in ("expandable_segments", "max_split_size") if name in torch.settings
        )
        yield f"          allocator: {torch.backend}, {on}"
    elif holder.variables:
        yield "          started with " + ", ".join(f"{name}={value}" for name, value in sorted(holder.variables.items()))


def _probed_lines(probed: Probed) -> Iterator[str]:
    for one in probed.devices:
        yield f"Largest block on GPU {one.index}: {_gib(one.largest).strip()} of {_gib(one.free).strip()} GiB free"
    if probed.pinned is not None:
        yield f"Largest pinned host block: {_gib(probed.pinned).strip()} GiB (tried up to 2)"


def _prediction_lines(sinks: tuple[Sink, ...], expected: tuple[int, int]) -> Iterator[str]:
    yield "What the run needs (GiB):"
    for sink in sinks:
        note = "host" if sink.host else "" if sink.peak else "not at the peak"
        yield f"  {_gib(sink.size)}  {sink.title:<46} {sink.how}" + (f"  [{note}]" if note else "")
        yield f"          smaller: {sink.remedy}"
    low, high = expected
    yield f"  {_gib(low)} to {_gib(high).strip()} expected at the peak (-5 % / +15 % of the sum, as the published measurements lie)"


def _gib(size: int) -> str:
    return f"{size / GIB:6.2f}"
