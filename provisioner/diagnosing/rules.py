"""Verdicts that follow from facts alone: each rule looks at a report's machine and says what cannot work there, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.machine.facts import Gpu
from provisioner.machine.report import Report

OLDEST_GLIBC = (2, 28)
"""Below this neither manylinux_2_28 wheels (torch's, the community's flash-attn) nor official flash-attn wheels load (flash-attention#1708)."""

OFFICIAL_GLIBC = (2, 32)
"""Official flash-attn wheels since 2.8.0 are built on Ubuntu 22.04 and need this glibc (flash-attention#1708, #1762, #2225)."""

FIRST_CUDA = {10: (12, 8), 11: (13, 0), 12: (12, 8)}
"""The first CUDA whose nvcc knows a major compute capability, as the knowledge table of architectures has it (2026-11-24)."""

_PLAN = "provision plan --explain"
_FAMILIES = ((3, "kepler"), (5, "maxwell"), (6, "pascal"), (7, "volta"))


def apply(report: Report) -> Iterator[Candidate]:
    """Yield what the rules see in ``report``."""
    for rule in RULES:
        yield from rule(report)


def nvidia_gpus(report: Report) -> tuple[Gpu, ...]:
    """Return the NVIDIA devices of a report."""
    return tuple(gpu for gpu in report.machine.gpus if gpu.vendor == "nvidia")


def _rocm(report: Report) -> Iterator[Candidate]:
    if report.rocm and not (nvidia_gpus(report) and report.machine.driver.version):
        fix = Fix(
            "on an AMD GPU use ROCm's own flash-attention (CK or Triton backend); with an NVIDIA GPU install a CUDA build of torch"
        )
        yield Candidate(
            "rocm-not-cuda",
            5,
            Severity.ERROR,
            "this is an AMD (ROCm) stack: CUDA builds of flash-attn do not apply",
            (report.rocm,),
            fix,
        )


def _no_gpu(report: Report) -> Iterator[Candidate]:
    if report.no_gpu and not report.machine.gpus:
        rank = 85 if "nvidia-smi" in report.no_gpu else 44
        fix = Fix("run on a machine with an NVIDIA GPU and its driver; in a container start it with `--gpus all`", "nvidia-smi")
        yield Candidate("no-gpu", rank, Severity.ERROR, "no NVIDIA GPU is visible here", (report.no_gpu,), fix)


def family(gpu: Gpu) -> str | None:
    """Return the family of a GPU that FlashAttention-2 has no kernels for (below 8.0): ``volta``, ``turing`` …"""
    capability = gpu.capability
    if capability is None or capability >= (8, 0):
        return None
    if capability >= (7, 5):
        return "turing"
    return next(name for major, name in reversed(_FAMILIES) if capability.major >= major) if capability.major >= 3 else "kepler"


def _architecture(report: Report) -> Iterator[Candidate]:
    gpus = nvidia_gpus(report)
    unsupported = [(gpu, name) for gpu in gpus if (name := family(gpu))]
    if not unsupported:
        return
    gpu, name = max(unsupported, key=lambda pair: pair[0].capability or (0, 0))
    evidence = tuple(dict.fromkeys(f"{gpu.name}: compute capability {gpu.compute_capability}" for gpu, _ in unsupported))
    if len(unsupported) < len(gpus):
        title = "some of the GPUs are below compute capability 8.0: FlashAttention-2 runs only on the others"
        fix = Fix("make only the newer GPUs visible: set CUDA_VISIBLE_DEVICES, with CUDA_DEVICE_ORDER=PCI_BUS_ID")
        yield Candidate("mixed-architectures", 90, Severity.WARNING, title, evidence, fix)
        return
    code = "arch-unsupported" if name == "kepler" else f"arch-unsupported-{name}"
    title = f"FlashAttention-2 has no kernels for {name.capitalize()} (compute capability {gpu.compute_capability}; it needs 8.0)"
    yield Candidate(
        code, 30, Severity.ERROR, title, evidence, Fix(_ROUTES[name], _PLAN), "flash-attn's setup.py and kernels, read 2026-11-24"
    )


_ROUTES = {
    "turing": "the `turing` recipe gives flash-attn's functions by an adapter whose kernels run here; Unsloth itself takes xformers or SDPA, which work",
    "volta": "the `volta` recipe gives flash-attn's functions by an adapter over PyTorch's kernels, with a torch that still has sm_70 (never CUDA 13); "
    "Unsloth itself takes xformers or SDPA",
    "pascal": "use PyTorch's scaled_dot_product_attention (math or memory-efficient): no flash-attn release supports Pascal",
    "maxwell": "use PyTorch's scaled_dot_product_attention: no flash-attn release supports Maxwell",
    "kepler": "Kepler is supported neither by current torch nor by flash-attn",
}


def _driver(report: Report) -> Iterator[Candidate]:
    """Only where torch does not already say that CUDA works: data-centre cards run newer CUDA through compatibility libraries."""
    from provisioner.knowledge import drivers

    machine = report.machine
    driver, cuda = machine.driver.version, machine.software.torch_cuda
    if not driver or not cuda or report.cuda_available or report.rocm or not nvidia_gpus(report):
        return
    windows = machine.platform.wsl in ("1", "2") or machine.platform.system == "windows"
    if int(cuda.split(".")[0]) >= 11 and not drivers.supports(driver, cuda, windows=windows):
        title = f"driver {driver} does not run CUDA {cuda}: it needs {drivers.floor(cuda, windows=windows)}"
        fix = Fix("update the driver, or install a torch built for an older CUDA major", _PLAN)
        yield Candidate("driver-too-old", 22, Severity.ERROR, title, (f"driver {driver}", f"torch built for CUDA {cuda}"), fix)


def _torch_arch(report: Report) -> Iterator[Candidate]:
    cuda = report.machine.software.torch_cuda
    match = re.fullmatch(r"(\d+)\.(\d+).*", cuda or "")
    if match is None:
        return
    built = (int(match[1]), int(match[2]))
    for gpu in nvidia_gpus(report):
        if (capability := gpu.capability) and (first := FIRST_CUDA.get(capability.major)) and built < first:
            title = f"torch for CUDA {cuda} has no kernels for compute capability {capability}: that begins with CUDA {first[0]}.{first[1]}"
            fix = Fix(f"install a torch built with CUDA {first[0]}.{first[1]} or newer", _PLAN)
            yield Candidate(
                "torch-lacks-gpu-arch", 41, Severity.ERROR, title, (f"{gpu.name}: {capability}", f"torch for CUDA {cuda}"), fix
            )
            return


_RANGE = re.compile(
    r"Minimum and Maximum cuda capability supported by this version of PyTorch is\s+\((\d+)\.(\d)\) - \((\d+)\.(\d)\)"
)


def _torch_range(report: Report) -> Iterator[Candidate]:
    """torch's warning is harmless within one major (12.1 runs kernels of 12.0), and true beyond it."""
    if "Minimum and Maximum" not in report.text.text or not (match := _RANGE.search(report.text.text)):
        return
    low, high = (int(match[1]), int(match[2])), (int(match[3]), int(match[4]))
    for gpu in nvidia_gpus(report):
        if (capability := gpu.capability) and (capability < low or capability.major > high[0]):
            quote = " ".join(match[0].split())
            fix = Fix("install a torch whose builds contain this architecture", _PLAN)
            title = f"this torch has no kernels for compute capability {capability}"
            yield Candidate("torch-lacks-gpu-arch", 41, Severity.ERROR, title, (f"{gpu.name}: {capability}", quote), fix)
            return


def _cuda_unavailable(report: Report) -> Iterator[Candidate]:
    cpu = report.cpu_torch
    if report.rocm or report.no_gpu or not (report.cuda_available is False or (cpu and report.cuda_available is None)):
        return
    if cpu and not nvidia_gpus(report):  # a CPU build on a machine of which no GPU is known is no fault
        return
    title = "torch is a CPU build although there is a GPU" if cpu else "torch cannot use CUDA"
    text = "install a CUDA build of torch" if cpu else "check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES"
    quote = report.evidence.get("signal.cuda_available") or report.evidence.get("signal.cpu_torch") or "torch without CUDA"
    rank = 45 if nvidia_gpus(report) else 86
    yield Candidate("cuda-unavailable", rank, Severity.ERROR, title, (quote,), Fix(text, _PLAN))


def _glibc(report: Report) -> Iterator[Candidate]:
    match = re.fullmatch(r"(\d+)\.(\d+)", report.machine.platform.glibc or "")
    if match is None or report.rocm or not nvidia_gpus(report):
        return
    glibc = (int(match[1]), int(match[2]))
    evidence = (report.evidence.get("platform.glibc", f"glibc {match[0]}"),)
    fix = Fix(
        "compile flash-attn on this system (`provision build`), use 2.7.4.post1 where its wheels still load, or work in a newer container",
        _PLAN,
    )
    if glibc < OLDEST_GLIBC:
        title = f"glibc {match[0]} is older than every current wheel needs (2.28; official flash-attn wheels: 2.32)"
        yield Candidate("glibc-too-old", 70, Severity.ERROR, title, evidence, fix, "flash-attention#1708, #1762, #2225")
    elif glibc < OFFICIAL_GLIBC:
        title = f"glibc {match[0]}: official flash-attn wheels since 2.8.0 need 2.32"
        yield Candidate(
            "official-wheels-need-newer-glibc", 95, Severity.WARNING, title, evidence, fix, "flash-attention#1708, #1762, #2225"
        )


def _musl(report: Report) -> Iterator[Candidate]:
    if report.machine.platform.musl:
        quote = report.evidence.get("platform.musl", "musl")
        fix = Fix("use a distribution with glibc: neither torch nor flash-attn has wheels for musl")
        yield Candidate(
            "musl-unsupported", 10, Severity.ERROR, "a C library (musl) without torch and flash-attn wheels", (quote,), fix
        )


def _wsl_error(report: Report) -> Iterator[Candidate]:
    if report.cuda_err and report.machine.platform.wsl in ("1", "2"):
        title = "nvidia-smi reaches the Windows driver but cannot load libcuda: the WSL side is incomplete"
        fix = Fix(
            "put /usr/lib/wsl/lib first on LD_LIBRARY_PATH, remove any Linux driver inside WSL, `wsl --update`, restart WSL",
            "ldconfig -p | grep libcuda",
        )
        yield Candidate("wsl-libcuda-not-found", 23, Severity.ERROR, title, ("CUDA Version: ERR!",), fix)


_HIDDEN_TORCH = re.compile(r"pip-build-env-\w+/overlay/.{0,200}build_meta\.py", re.DOTALL)


def _isolated_build(report: Report) -> Iterator[Candidate]:
    """flash-attn's setup.py needs torch on its first lines and declares nothing: run in isolation it cannot but fail there."""
    text = report.text.text
    if "requirements to build wheel" in text and re.search(r"flash[-_]attn", text) and _HIDDEN_TORCH.search(text):
        quote = next((line.strip() for line in report.text.lines if "requirements to build wheel" in line), "")
        fix = Fix(
            "install torch first, then flash-attn without build isolation",
            "pip install --no-build-isolation flash-attn",
            Safety.REVERSIBLE,
        )
        yield Candidate(
            "no-torch-build-isolation",
            79,
            Severity.ERROR,
            "flash-attn's setup runs isolated, where there is no torch",
            (quote,),
            fix,
        )


_REFUSED_CAPABILITY = re.compile(
    r"your GPU has capability \((?P<a>\d+), (?P<b>\d+)\) \(too old\)|GPU with CUDA capability (?P<c>\d+)[ .](?P<d>\d) is not supported"
)


def _stated_capability(report: Report) -> Iterator[Candidate]:
    """xformers and text-generation-inference name the GPU's capability in their refusals; that tells the family where no device is listed."""
    words = ("(too old)", "with CUDA capability")
    if nvidia_gpus(report) or not any(word in report.text.text for word in words):
        return
    match = _REFUSED_CAPABILITY.search(report.text.text)
    if match is None:
        return
    name = family(Gpu(compute_capability=f"{match['a'] or match['c']}.{match['b'] or match['d']}"))
    if name and name != "kepler":
        title = f"FlashAttention-2 has no kernels for {name.capitalize()}"
        yield Candidate(f"arch-unsupported-{name}", 30, Severity.ERROR, title, (match[0],), Fix(_ROUTES[name], _PLAN))


def _native_windows(report: Report) -> Iterator[Candidate]:
    if report.machine.platform.system == "windows":
        fix = Fix("use WSL2: official flash-attn wheels and this tool's environments are for Linux")
        evidence = (report.evidence.get("platform.os", "Windows"),)
        yield Candidate(
            "native-windows", 96, Severity.WARNING, "native Windows: there are no official flash-attn wheels", evidence, fix
        )


RULES: tuple[Callable[[Report], Iterator[Candidate]], ...] = (
    _rocm,
    _no_gpu,
    _architecture,
    _stated_capability,
    _driver,
    _torch_arch,
    _torch_range,
    _cuda_unavailable,
    _glibc,
    _musl,
    _wsl_error,
    _isolated_build,
    _native_windows,
)
