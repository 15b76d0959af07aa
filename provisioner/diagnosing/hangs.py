"""A process that does not return: what it was waiting for, by its Python stacks and by what the kernel says; or that it is only slow.

What the kernel states (a lock, a socket, the driver) goes before what a stack suggests. Frames as in torch 2.13, triton 3.9,
huggingface_hub 2.4, filelock and unsloth 2026.10.9 (2026-11-24); the rest is judgement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Attempt, Lock, Waits

BUSY, RUNNABLE = 0.5, 0.05
"""Cores kept busy from which a process counts as at work; fewer where it wants to run and is not let."""

MOMENT = 2.0
"""Seconds without work that say nothing yet: two looks at a child."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A reason to wait: what for, what ends it, and the command if there is one."""

    what: str
    remedy: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a process: frames, the innermost first, of two moments, the kernel's answers, build locks found.

    ``idle`` are the seconds for which it had done nothing when it was stopped, None where nobody looked.
    """

    frames: tuple[str, ...]
    earlier: tuple[str, ...]
    waits: Waits
    locks: tuple[Lock, ...] = ()
    idle: float | None = None

    def at(self, pattern: str, *, depth: int = 12) -> bool:
        """Say whether one of the innermost frames matches."""
        return any(re.search(pattern, frame) for frame in self.frames[:depth])

    @property
    def moved(self) -> bool:
        """Whether the stack had changed between the two moments."""
        return bool(self.earlier) and self.earlier[:8] != self.frames[:8]

    @property
    def looped(self) -> bool:
        """Whether it was at the same lines at both moments."""
        return bool(self.earlier) and not self.moved

    @property
    def busy(self) -> bool:
        """Whether the process or its children were computing, or would have, had the machine not been crowded."""
        cpu = self.waits.cpu or 0.0
        return cpu >= BUSY or (cpu >= RUNNABLE and (self.waits.state or "").startswith("R"))

    @property
    def progressing(self) -> bool:
        """Whether it got on, however little of a crowded machine it was given: another stack and some CPU time, or work a moment ago."""
        worked = self.idle is not None and self.idle <= MOMENT and not self.looped
        return worked or (self.moved and (self.waits.cpu or 0.0) >= RUNNABLE)


def evidence_of(attempt: Attempt, locks: tuple[Lock, ...] = ()) -> Evidence:
    """Return the evidence that an import's attempt left."""
    return Evidence(frames_of(attempt.stack), frames_of(attempt.earlier), attempt.waits, locks, attempt.idle)


def frames_of(stack: str) -> tuple[str, ...]:
    """Return the frames of faulthandler's dump, main thread's first (it prints that last), without the import machinery's."""
    threads = re.split(r"^(?:Current thread|Thread) .*$", stack, flags=re.MULTILINE)
    lines = [line.strip() for part in reversed(threads) for line in part.splitlines()]
    return tuple(line for line in lines if line.startswith("File ") and "<frozen importlib" not in line)


def _build_lock(seen: Evidence) -> Wait | None:
    if not seen.at(r"file_baton\.py"):
        return None
    builders = [pid for lock in seen.locks for pid in lock.builders]
    if builders:
        return Wait(f"another build of the same extension (process {builders[0]})", "let that build end, or end it")
    named = f" {seen.locks[0].path}" if seen.locks else ""
    return Wait(
        f"the lock{named} of a build that has died", "delete the lock", f"rm {seen.locks[0].path}" if seen.locks else None
    )


def _driver(seen: Evidence) -> Wait | None:
    stuck = [thread for thread in seen.waits.stuck if re.search(r"nv|uvm|os_acquire|dxg", thread)]
    native = any(re.search(r"libcuda|cuInit|libnvidia", frame) for frame in seen.waits.native[:10])
    if stuck or (seen.waits.call == "ioctl" and "/dev/nvidia" in (seen.waits.target or "")) or native:
        return Wait("the NVIDIA driver", "see whether nvidia-smi answers, and the kernel log for Xid lines", "nvidia-smi")
    return None


def _storage(seen: Evidence) -> Wait | None:
    if seen.waits.stuck and re.search(r"nfs|rpc_wait|fuse|ceph|lustre", " ".join(seen.waits.stuck)):
        return Wait("a network file system that does not answer", "put caches on a local disk: TRITON_CACHE_DIR, HF_HOME, TMPDIR")
    return None


def _file_lock(seen: Evidence) -> Wait | None:
    for lock in seen.waits.locks:
        if lock.holder is not None:
            return Wait(
                f"the lock {lock.path}, held by process {lock.holder} ({lock.command})", "let that process end, or end it"
            )
        return Wait(
            f"the lock {lock.path}, held by a process that cannot be seen here",
            "look on the other hosts that share this directory",
        )
    if seen.at(r"filelock/|_filelock\.py|utils/_fixes\.py.*WeakFileLock"):
        held = next((name for name in seen.waits.files if "lock" in name), None)
        return Wait(
            f"the file lock {held}" if held else "a file lock", "end the process that holds it, or delete the lock if nobody does"
        )
    return None


def _process_group(seen: Evidence) -> Wait | None:
    if not seen.at(r"distributed/rendezvous\.py|distributed_c10d\.py|distributed/elastic/"):
        return None
    where = _peer(seen)
    return Wait(
        "other ranks of a process group" + (f" at {where}" if where else ""),
        "look for a missing rank, a port or a firewall; several GPUs: `unsloth doctor`",
        "export NCCL_DEBUG=INFO",
    )


def _download(seen: Evidence) -> Wait | None:
    known = r"huggingface_hub/|hf_xet|http/client\.py|urllib/request\.py|urllib3/|httpx?/|httpcore/|/ssl\.py|requests/"
    web = any(
        re.search(r":(443|80)$", socket.remote) and socket.state in ("SYN_SENT", "ESTABLISHED") for socket in seen.waits.sockets
    )
    if not (seen.at(known) or web):
        return None
    where = _peer(seen)
    what = "a download or a server that does not answer" + (f" ({where})" if where else "")
    return Wait(what, "work offline", "export HF_HUB_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1")


def _network(seen: Evidence) -> Wait | None:
    pending = next((socket for socket in seen.waits.sockets if socket.state == "SYN_SENT"), None)
    if pending or seen.waits.call == "connect":
        return Wait(
            f"a connection to {pending.remote if pending else 'a peer'}",
            "see whether that host answers, and which firewall is between",
        )
    if seen.waits.call in ("accept", "accept4"):
        listening = next((socket.local for socket in seen.waits.sockets if socket.state == "LISTEN"), "its socket")
        return Wait(f"somebody to connect to {listening}", "start the peer that should connect")
    if (seen.waits.target or "").startswith("socket:") and seen.waits.call in ("recvfrom", "recvmsg", "read"):
        return Wait(f"an answer from {_peer(seen) or 'a local peer'}", "see what the peer is doing")
    return None


def _peer(seen: Evidence) -> str | None:
    active = [one for one in seen.waits.sockets if one.state in ("SYN_SENT", "ESTABLISHED", "CLOSE_WAIT")]
    return (
        active[0].remote
        if active
        else next((f"port {one.local.rsplit(':', 1)[1]}" for one in seen.waits.sockets if one.state == "LISTEN"), None)
    )


_COMPILERS = re.compile(r"(?:^|/|\s)(ninja|nvcc|cicc|ptxas|cc1plus|cc1|g\+\+|gcc|cc|clang)(?:\s|$)")


def _compile(seen: Evidence) -> Wait | None:
    if any("compile_worker" in child for child in seen.waits.children) or seen.at(
        r"torch/_inductor/(?:async_compile|compile_worker)"
    ):
        return Wait(
            "Inductor's compile workers",
            "one worker; then no compile at all: UNSLOTH_COMPILE_DISABLE=1",
            "export UNSLOTH_FORCE_SINGLE_COMPILE_WORKER=1",
        )
    if program := next((match[1] for child in seen.waits.children if (match := _COMPILERS.search(child))), None):
        return Wait(f"a compiler ({program})", "let it end: fewer jobs where memory is short (MAX_JOBS=4)")
    if seen.at(r"triton/runtime/build\.py|triton/backends/nvidia/compiler\.py"):
        return Wait("a compiler that Triton started", "see the child process below")
    return None


def _child(seen: Evidence) -> Wait | None:
    if seen.at(r"multiprocessing/|datasets/utils/py_utils\.py"):
        return Wait("a worker process", "use one process", "export UNSLOTH_DATASET_NUM_PROC=0")
    if seen.waits.children and (seen.waits.call in ("wait4", "waitid") or seen.at(r"/subprocess\.py", depth=4)):
        return Wait(f"another program: {seen.waits.children[0].split(' ', 1)[-1]}", "see what that program is doing")
    return None


def _cuda(seen: Evidence) -> Wait | None:
    if seen.at(r"torch/cuda/__init__\.py.*_lazy_init|torch/cuda/__init__\.py"):
        return Wait("CUDA's initialisation", "see whether nvidia-smi answers, and the kernel log for Xid lines", "nvidia-smi")
    return None


REASONS: tuple[Callable[[Evidence], Wait | None], ...] = (
    _build_lock, _driver, _storage, _file_lock, _process_group, _compile, _download, _network, _child, _cuda,
)  # fmt: skip


def reason(seen: Evidence) -> Wait | None:
    """Return what the process was waiting for, None where nothing known explains it."""
    return next((wait for one in REASONS if (wait := one(seen)) is not None), None)


def judge(what: str, seconds: float, seen: Evidence) -> Candidate:
    """Return the finding about an import that had not returned after ``seconds``: hung, or at work and only slow."""
    wait, quotes = reason(seen), tuple(_quotes(seen))
    fix = _ended(wait) if wait else None
    if seen.progressing or (seen.busy and (seen.waits.children or not seen.looped)):
        at = f": at {wait.what}" if wait else ""
        title = f"{what} was still at work after {seconds:.0f} s ({seen.waits.cpu:.1f} cores busy){at}"
        advice = fix or Fix("give it more time: the variable UNSLOTH_DIAGNOSE_SECONDS sets the limit of each import")
        return Candidate("import-slow", 89, Severity.WARNING, title, quotes, advice)
    title = f"{what} did not return in {seconds:.0f} s" + _waits_for(wait, seen)
    return Candidate("import-hangs", 43, Severity.ERROR, title, quotes, fix or (_LOOK if seen.frames else _INTERRUPT))


def judge_process(pid: int, seconds: float, seen: Evidence) -> Candidate:
    """Return the finding about a running process that was watched for ``seconds``."""
    wait, quotes = reason(seen), tuple(_quotes(seen))
    if seen.busy or seen.moved:
        moved = "and its stack changes" if seen.moved else "at one line" if seen.earlier else "its Python stack could not be read"
        title = f"process {pid} is at work: {seen.waits.cpu or 0:.1f} cores busy, {moved}" + (f"; at {wait.what}" if wait else "")
        fix = _ended(wait) if wait else Fix("wait; look again in a minute", f"provision doctor --pid {pid}")
        return Candidate("process-busy", 97, Severity.INFO, title, quotes, fix)
    title = f"process {pid} did nothing for {seconds:.0f} s" + _waits_for(wait, seen)
    fix = _ended(wait) if wait else _LOOK if seen.frames else _OBSERVE
    return Candidate("process-hangs", 43, Severity.ERROR, title, quotes, fix)


def _ended(wait: Wait) -> Fix:
    reads = wait.command is None or wait.command == "nvidia-smi"
    return Fix(wait.remedy, wait.command, Safety.READ_ONLY if reads else Safety.REVERSIBLE)


_LOOK = Fix("look at the frames above: the first one is the line that does not return")
_INTERRUPT = Fix("run it by itself and interrupt it (Ctrl-C): the traceback names the line")
_OBSERVE = Fix("to see its Python stack, install py-spy, or start it with `provision run --observe`")


def _waits_for(wait: Wait | None, seen: Evidence) -> str:
    return (f": it waits for {wait.what}" if wait else "") + (" (one line keeps the CPU busy)" if seen.busy else "")


def _quotes(seen: Evidence) -> Iterator[str]:
    quotes = list(dict.fromkeys(seen.frames[:3]))
    if seen.earlier and quotes:
        quotes.append("the stack had changed since" if seen.moved else "the same line some seconds before")
    waits = seen.waits
    if waits.call or waits.state:
        target = f" on {waits.target}" if waits.target else ""
        quotes.append(
            f"the kernel: {waits.state or '?'}, in {waits.call or waits.kernel or 'no call'}{target}, {waits.cpu or 0:.1f} cores busy"
        )
    quotes += [f"stuck in the kernel: {thread}" for thread in waits.stuck[:2]]
    quotes += [f"waits for {lock.path}, held by {lock.holder or 'nobody seen here'}" for lock in waits.locks[:2]]
    quotes += [f"socket: {one.local} {one.state} {one.remote}" for one in waits.sockets[:2]]
    quotes += [f"child: {child}" for child in waits.children[:3]]
    quotes += list(waits.native[:3])
    yield from quotes or ["no Python frame"]
