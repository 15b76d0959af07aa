"""What a training run holds on the GPU, sink by sink: pure formulae over the model's shape and the run's settings.

Sizes are bytes. The constants were read in unsloth and unsloth_zoo 2026.10.9, bitsandbytes 0.50.2, peft 0.21.2 and torch 2.13.0
(24 November 2026); against the measurements that were published the sum is right to about -5 % and +15 %, which is why a band is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from provisioner.compat import StrEnum
from provisioner.diagnosing.memory.shape import ModelShape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per parameter of NF4 with double quantisation: absmax is uint8 per 64, with float32 per 256 blocks (bitsandbytes functional.py)."""

BAND = (0.95, 1.15)
"""Between which multiples of the sum the real peak lay in the published measurements."""


class Weights(StrEnum):
    """How the frozen weights are held."""

    FOUR_BIT = "4bit"
    EIGHT_BIT = "8bit"
    SIXTEEN_BIT = "16bit"


class Checkpointing(StrEnum):
    """Which activations are kept: Unsloth's offloads layer inputs to pinned host memory, Hugging Face's keeps them on the GPU."""

    UNSLOTH = "unsloth"
    TORCH = "torch"
    NONE = "none"


class Loss(StrEnum):
    """Whether the logits are made in chunks (Unsloth), or all at once: compute_metrics and UNSLOTH_RETURN_LOGITS do the latter."""

    FUSED = "fused"
    FULL = "full"


OPTIMIZERS = {
    "adamw_torch": (2, None),
    "adamw_torch_fused": (2, None),
    "adamw_8bit": (2, 1 + 4 / 256),
    "adamw_bnb_8bit": (2, 1 + 4 / 256),
    "paged_adamw_32bit": (2, 4.0),
    "paged_adamw_8bit": (2, 1 + 4 / 256),
    "lion_8bit": (1, 1 + 4 / 256),
    "adafactor": (0, None),
    "sgd": (0, None),
}
"""States per trainable parameter, and bytes of one (None: the parameter's own dtype); bitsandbytes optim/optimizer.py."""


@dataclass(frozen=True, slots=True)
class Training:
    """One run: ``length`` is the padded sequence length, ``rank`` 0 means full fine-tuning in bfloat16.

    ``eager`` says that attention runs without flash-attn, SDPA or xformers. ``vllm_share`` is `gpu_memory_utilization` of a
    ``fast_inference=True`` load, 0 without it; with it ``card`` (bytes) must be known to state a size.
    """

    batch: int = 1
    length: int = 2048
    rank: int = 16
    weights: Weights = Weights.FOUR_BIT
    optimizer: str = "adamw_8bit"
    checkpointing: Checkpointing = Checkpointing.UNSLOTH
    loss: Loss = Loss.FUSED
    eager: bool = False
    vllm_share: float = 0.0
    card: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens per step."""
        return self.batch * self.length


@dataclass(frozen=True, slots=True)
class Sink:
    """One consumer: its stable code, its size, how that was calculated, what makes it smaller today, and where that was read.

    ``peak`` is false for what is not held at the same time as a larger sink, ``host`` true for pinned memory of the host.
    """

    code: str
    title: str
    size: int
    how: str
    remedy: str
    source: str
    peak: bool = True
    host: bool = False


def sinks(shape: ModelShape, run: Training) -> tuple[Sink, ...]:
    """Return every sink of ``run``, in the order in which they come into being."""
    working, loss = activations(shape, run), logits(shape, run)
    smaller = loss if loss.size <= working.size and run.loss is Loss.FUSED else working if run.loss is Loss.FUSED else None
    found = [
        *weights(shape, run),
        *trained(shape, run),
        working if smaller is not working else _aside(working),
        loss if smaller is not loss else _aside(loss),
        *attention(shape, run),
        *layer_inputs(shape, run),
        *key_value_cache(shape, run),
        context(),
    ]
    return tuple(sink for sink in found if sink.size > 0)


def _aside(sink: Sink) -> Sink:
    """The chunk of the loss and a layer's working set are not held together: the smaller one does not add to the peak."""
    return replace(sink, peak=False)


def weights(shape: ModelShape, run: Training) -> tuple[Sink, Sink]:
    """Return the matrices, and what stays 16-bit beside them."""
    per = {Weights.FOUR_BIT: NF4_BYTES, Weights.EIGHT_BIT: 1.0, Weights.SIXTEEN_BIT: 2.0}[run.weights]
    matrices = Sink(
        "weights",
        f"weights of all layers ({run.weights})",
        round(per * shape.linear_parameters),
        f"{per:.4g} B x {shape.linear_parameters / 1e9:.2f} G parameters",
        "load_in_4bit=True, best from a *-bnb-4bit repository" if run.weights is not Weights.FOUR_BIT else "a smaller model",
        "bitsandbytes functional.py (NF4, double quantisation)",
    )
    rest = Sink(
        "embeddings-16bit",
        "embeddings, head and norms (16-bit)" if not shape.vision else "embeddings, head, norms, vision tower (16-bit)",
        2 * shape.other_parameters,
        f"2 B x {shape.other_parameters / 1e9:.2f} G parameters" + ("" if shape.tied else ", head not tied"),
        'offload_embedding="auto" in from_pretrained; never convert them to float32, which doubles them',
        "unsloth_zoo peft_utils.py (SKIP_QUANTIZATION_MODULES); peft utils/other.py",
    )
    return matrices, rest


def trained(shape: ModelShape, run: Training) -> tuple[Sink, ...]:
    """Return what is held per trained parameter: LoRA's own float32 weights, gradients, optimizer states."""
    full = run.rank == 0
    count, width = (shape.parameters, 2) if full else (shape.lora_parameters(run.rank), 4)
    states, each = OPTIMIZERS[run.optimizer]
    per = states * (width if each is None else each)
    lora = Sink(
        "lora-weights",
        f"LoRA weights, rank {run.rank} (float32)",
        0 if full else 4 * count,
        f"4 B x {count / 1e6:.1f} M parameters",
        "a lower rank, or fewer target_modules",
        "unsloth_zoo training_utils.py; peft autocast_adapter_dtype",
    )
    gradients = Sink(
        "gradients",
        "gradients",
        width * count,
        f"{width} B x {count / 1e6:.1f} M trained parameters",
        "LoRA instead of full fine-tuning" if full else "a lower rank",
        "unsloth models/vision.py (pure bfloat16)" if full else "unsloth_zoo training_utils.py",
    )
    optimizer = Sink(
        "optimizer-states",
        f"optimizer states ({run.optimizer})",
        round(per * count),
        f"{per:.3g} B x {count / 1e6:.1f} M trained parameters",
        'optim="adamw_8bit", or UNSLOTH_OFFLOAD_OPTIMIZER_STATE=1' if full else "little to gain with LoRA: look further down",
        "bitsandbytes optim/optimizer.py; unsloth optimizers/state_offload.py",
    )
    return lora, gradients, optimizer


WORKING_SET = 52
"""Bytes per hidden element and token that are live inside one layer: unsloth_zoo block_swap.py plans 48 for the layer; 4 for the last hidden state."""


def activations(shape: ModelShape, run: Training) -> Sink:
    """Return the activations that are live at the peak."""
    token, inputs = shape.hidden * run.tokens, 2 * shape.layers * shape.hidden * run.tokens
    match run.checkpointing:
        case Checkpointing.UNSLOTH:
            size, how, remedy = (
                WORKING_SET * token,
                f"{WORKING_SET} B x hidden x {run.tokens} tokens, one layer",
                "unsloth_tiled_mlp=True",
            )
        case Checkpointing.TORCH:
            size, how = 41 * token + inputs, f"(41 + 2 x {shape.layers} layers) B x hidden x {run.tokens} tokens"
            remedy = 'use_gradient_checkpointing="unsloth"'
        case Checkpointing.NONE:
            width = shape.hidden + 2 * shape.kv_heads * shape.head_dim + 2 * _active_width(shape)
            size = round(2.5 * shape.layers * run.tokens * width)
            how, remedy = f"2.5 B x {shape.layers} layers x {run.tokens} tokens x {width}", 'use_gradient_checkpointing="unsloth"'
    title = "activations" if run.checkpointing is not Checkpointing.NONE else "activations of all layers (no checkpointing)"
    remedy = f"batch size 1 with gradient accumulation, shorter max_seq_length, {remedy}"
    return Sink("activations", title, size, how, remedy, "unsloth_zoo block_swap.py (measured 42 on Llama-3.1-8B, rounded up)")


def _active_width(shape: ModelShape) -> int:
    """The width of what one token passes through; two experts where the configuration is a mixture."""
    return shape.intermediate if not shape.experts else shape.shared_intermediate + 2 * shape.expert_intermediate


CHUNK_TOKENS = 2048
CHUNK_LIMIT = 4 * 10**9
"""unsloth_zoo's fused cross-entropy: half of the free memory, at most 4 GB (fused_losses/cross_entropy_loss.py)."""


def logits(shape: ModelShape, run: Training) -> Sink:
    """Return the logits and what cross-entropy makes of them."""
    if run.loss is Loss.FUSED:
        tokens = min(run.tokens, CHUNK_TOKENS)
        size, how = min(4 * tokens * shape.vocabulary, CHUNK_LIMIT), f"4 B x {shape.vocabulary} words x {tokens} tokens, a chunk"
        remedy = "UNSLOTH_CE_LOSS_TARGET_GB, UNSLOTH_CE_LOSS_N_CHUNKS"
    else:
        size, how = 15 * run.tokens * shape.vocabulary, f"15 B x {shape.vocabulary} words x {run.tokens} tokens"
        remedy = "no compute_metrics, no UNSLOTH_RETURN_LOGITS=1, no custom loss over logits: then Unsloth's fused loss applies"
    title = "logits and cross-entropy" + (" (a chunk at a time)" if run.loss is Loss.FUSED else " (all logits at once)")
    return Sink("logits", title, size, how, remedy, "unsloth_zoo cross_entropy_loss.py, fused_losses/cross_entropy_loss.py")


def attention(shape: ModelShape, run: Training) -> tuple[Sink, ...]:
    """Return the score matrix of eager attention; flash-attn, SDPA and xformers never make it."""
    if not run.eager:
        return ()
    size = 24 * run.batch * shape.heads * run.length**2
    how = f"24 B x {run.batch} x {shape.heads} heads x {run.length} x {run.length}"
    remedy = "any fused attention: flash-attn, xformers or SDPA (below compute capability 8.0 the last two work)"
    return (Sink("attention-scores", "attention scores (eager)", size, how, remedy, "unsloth studio VRAM_ESTIMATION.md"),)


def layer_inputs(shape: ModelShape, run: Training) -> tuple[Sink, ...]:
    """Return what Unsloth's checkpointing keeps in pinned host memory."""
    if run.checkpointing is not Checkpointing.UNSLOTH:
        return ()
    size = 2 * shape.layers * shape.hidden * run.tokens
    how = f"2 B x {shape.layers} layers x hidden x {run.tokens} tokens"
    remedy = "under WSL2, where pinned memory is capped near 1-2 GB: UNSLOTH_DISABLE_PINNED_MEMORY=1"
    source = "unsloth_zoo gradient_checkpointing.py; unsloth#338, #1552, #1744, #1797"
    return (Sink("pinned-host-memory", "layer inputs, pinned host memory", size, how, remedy, source, peak=False, host=True),)


def key_value_cache(shape: ModelShape, run: Training) -> tuple[Sink, ...]:
    """Return what vLLM reserves beside the weights, which it shares with training, under ``fast_inference=True``."""
    if not run.vllm_share or run.card is None:
        return ()
    held = sum(sink.size for sink in weights(shape, run))
    size = max(0, round(run.vllm_share * run.card) - held)
    how = f"{run.vllm_share:.0%} of {run.card / 2**30:.1f} GiB, less the weights"
    remedy = "a lower gpu_memory_utilization, or UNSLOTH_VLLM_STANDBY=1; max_num_seqs does not set it"
    return (Sink("vllm-kv-cache", "vLLM's KV cache (fast_inference)", size, how, remedy, "unsloth_zoo vllm_utils.py"),)


CONTEXT = 2**29
"""A CUDA context with libraries: 256 to 600 MiB were reported for one process (pytorch#107667, #109888; InvokeAI#9413); 0.508 GiB were measured with torch
2.11.0+cu130 on an H100 (2026-11-25)."""


def context() -> Sink:
    """Return what each process takes that torch's counters do not show."""
    remedy = "one process per GPU; end notebooks kept alive: each holds a context"
    return Sink(
        "cuda-context", "CUDA context and libraries", CONTEXT, "about 0.5 GiB a process", remedy, "pytorch#107667, #109888"
    )


def peak(found: tuple[Sink, ...]) -> int:
    """Return the bytes of GPU memory that are held together at the worst moment."""
    return sum(sink.size for sink in found if sink.peak and not sink.host)


def band(found: tuple[Sink, ...]) -> tuple[int, int]:
    """Return between which sizes the real peak is to be expected."""
    total = peak(found)
    return round(BAND[0] * total), round(BAND[1] * total)
