"""The host: distribution, kernel, processor, C library, and the container around this process."""

from __future__ import annotations

import re

from provisioner.machine.facts import Machine, Platform
from provisioner.machine.system import System

_ASSIGNMENT = re.compile(r"""^\s*([A-Z_]+)=(["']?)(.*?)\2\s*$""", re.MULTILINE)
_GLIBC = re.compile(r"glibc (\d+\.\d+)")
_GLIBC_BANNER = rb"GNU C Library [^\n\x00]{0,80}version (\d\.\d{1,3})"
_GLIBC_PLACES = ("/lib/{machine}-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6", "/usr/lib64/libc.so.6")
_MUSL = rb"[\x00\n](1\.\d{1,2}\.\d{1,2})[\x00\n]"

_CGROUP_CONTAINERS = (
    ("docker", "docker"),
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("lxc", "lxc"),
    ("containerd", "containerd"),
)


def facts(system: System, known: Machine) -> Machine:
    """Return the platform facts. ``os`` is the distribution's own name for itself, e.g. ``Ubuntu 22.04.5 LTS``."""
    kernel = system.kernel()
    release = (system.read("/proc/sys/kernel/osrelease") or kernel.release or "").strip()
    glibc = _glibc(system, kernel.libc, kernel.machine)
    platform = Platform(
        os=distribution(system.read("/etc/os-release") or system.read("/usr/lib/os-release") or ""),
        glibc=glibc,
        machine=kernel.machine,
        system=kernel.system,
        kernel=release or None,
        musl=_musl(system) if glibc is None else None,
        container=container(system),
    )
    return Machine(platform=platform, cuda_visible_devices=system.environ.get("CUDA_VISIBLE_DEVICES"))


def distribution(os_release: str) -> str | None:
    """Return the pretty name in the text of an os-release file (os-release(5)), or name and version, or None."""
    values = {match[1]: match[3] for match in _ASSIGNMENT.finditer(os_release)}
    name = values.get("PRETTY_NAME") or " ".join(filter(None, (values.get("NAME"), values.get("VERSION_ID"))))
    return name.strip()[:200] or None


def _glibc(system: System, libc: str | None, machine: str | None) -> str | None:
    """Return the version of the C library this process runs on, else of the one that lies where glibc belongs."""
    if match := _GLIBC.match(libc or ""):
        return match[1]
    for place in _GLIBC_PLACES:
        if version := system.search(place.format(machine=machine), _GLIBC_BANNER):
            return version
    return None


def _musl(system: System) -> str | None:
    """Return musl's version, which its loader holds as a string."""
    loaders = system.glob("/lib", "ld-musl-*.so.1")
    return next((version for loader in loaders if (version := system.search(loader, _MUSL))), None)


def container(system: System) -> str | None:
    """Return the kind of container this process is in, None on a host (or in one that leaves no trace)."""
    environ = system.environ
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ or system.exists("/.singularity.d"):
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if system.exists("/.dockerenv"):
        return "docker"
    if system.exists("/run/.containerenv"):
        return "podman"
    named = environ.get("container") or (system.read("/run/systemd/container") or "").strip()
    if named and re.fullmatch(r"[a-z-]{2,32}", named):
        return named
    groups = system.read("/proc/1/cgroup") or ""
    return next((kind for trace, kind in _CGROUP_CONTAINERS if f"/{trace}" in groups or f":/{trace}" in groups), None)
