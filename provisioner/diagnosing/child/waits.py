"""What the kernel says about a process that does not return: readable without ptrace, in any Python from 3.8 on."""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import subprocess
from typing import Any

CALLS = {
    "x86_64": {
        0: "read", 1: "write", 7: "poll", 16: "ioctl", 23: "select", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto",
        45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 72: "fcntl", 73: "flock", 74: "fsync", 202: "futex",
        230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 257: "openat", 270: "pselect6", 271: "ppoll", 281: "epoll_pwait",
        288: "accept4",
    },
    "aarch64": {
        22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 56: "openat", 63: "read", 64: "write", 72: "pselect6", 73: "ppoll",
        82: "fsync", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 202: "accept", 203: "connect",
        206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4", 260: "wait4",
    },
}  # fmt: skip
"""System calls in which a process waits, by their numbers (Linux's tables for the two architectures)."""

ON_A_FILE = (
    "read", "write", "ioctl", "connect", "accept", "accept4", "sendto", "recvfrom", "sendmsg", "recvmsg", "fcntl", "flock", "fsync",
)  # fmt: skip
TCP_STATES = {"01": "ESTABLISHED", "02": "SYN_SENT", "03": "SYN_RECV", "06": "TIME_WAIT", "08": "CLOSE_WAIT", "0A": "LISTEN"}


def read(path: str, limit: int = 1 << 16) -> str:
    """Return a small file's text, empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""


def run(words: list[str], seconds: float) -> tuple[int | None, str]:
    """Return exit code and output of a program; code None where it is missing or was stopped."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def waiting(pid: int, native: bool = True) -> dict[str, Any]:
    """Return in which call a process sleeps and on what: its locks and sockets, its threads in the driver, its children."""
    state = re.search(r"^State:\s+(.*)$", read("/proc/%d/status" % pid), re.MULTILINE)
    files = open_files(pid)
    call, number = system_call(pid)
    sockets = tcp_sockets(pid, files)
    return {
        "state": state.group(1) if state else None,
        "kernel": read("/proc/%d/wchan" % pid) or None,
        "call": call,
        "target": files.get(number) if call in ON_A_FILE and number is not None else None,
        "stuck": stuck_threads(pid),
        "files": sorted({name for name in files.values() if "lock" in name or "/nvidia" in name})[:10],
        "locks": awaited_locks(pid, files),
        "sockets": [sockets[name] for name in sorted(sockets)][:10],
        "children": ["%d %s" % (one, command(one)) for one in descendants(pid)][:10],
        "native": native_stack(pid) if native else [],
    }


def open_files(pid: int) -> dict[int, str]:
    """Return what each open file of a process is."""
    found = {}
    for link in glob.glob("/proc/%d/fd/*" % pid):
        try:
            found[int(os.path.basename(link))] = os.readlink(link)
        except OSError:
            continue
    return found


def system_call(pid: int) -> tuple[str | None, int | None]:
    """Return the name of the call in which the main thread is, and its first argument; None where it runs or may not be seen."""
    words = read("/proc/%d/syscall" % pid).split()
    if len(words) < 2 or not words[0].lstrip("-").isdigit():
        return None, None
    name = CALLS.get(platform.machine(), {}).get(int(words[0]))
    return name, int(words[1], 16) & 0xFFFFFFFF


def stuck_threads(pid: int) -> list[str]:
    """Return the threads that even a signal does not wake (state D), with the kernel function, and its stack where root may read it."""
    found = []
    for task in sorted(glob.glob("/proc/%d/task/*" % pid)):
        after = read(task + "/stat").rsplit(")", 1)[-1].split()
        if after[:1] == ["D"]:
            stack = re.findall(r"\] (\w+)", read(task + "/stack"))[:6]
            found.append(" < ".join([read(task + "/comm").strip(), *(stack or [read(task + "/wchan") or "?"])]))
    return found[:8]


def awaited_locks(pid: int, files: dict[int, str]) -> list[dict[str, Any]]:
    """Return the file locks that a process waits for and who holds each (/proc/locks; a holder elsewhere is not listed)."""
    rows = [line.split() for line in read("/proc/locks").splitlines()]
    found = []
    for row in rows:
        if len(row) >= 7 and row[1] == "->" and row[5] == str(pid):
            holder = next((one for one in rows if one[1] != "->" and one[0] == row[0] and one[5] == row[6]), None)
            inode = int(row[6].split(":")[-1])
            path = next((name for name in files.values() if inode_of(name) == inode), None)
            owner = int(holder[4]) if holder and holder[4].isdigit() else None
            found.append({"path": path or row[6], "holder": owner, "command": command(owner) if owner else None})
    return found


def inode_of(path: str) -> int | None:
    """Return a file's inode, None where it is no file."""
    try:
        return os.stat(path).st_ino if path.startswith("/") else None
    except OSError:
        return None


def tcp_sockets(pid: int, files: dict[int, str]) -> dict[str, dict[str, Any]]:
    """Return the TCP sockets of a process by their names in ``files``: state, own and other address."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in read("/proc/%d/net/%s" % (pid, table)).splitlines()[1:]:
            row = line.split()
            name = "socket:[%s]" % row[9] if len(row) > 9 else ""
            if name in files.values():
                found[name] = {"state": TCP_STATES.get(row[3], row[3]), "local": address(row[1]), "remote": address(row[2])}
    return found


def address(text: str) -> str:
    """Return the kernel's hexadecimal address as people write it; IPv6 in short where it maps IPv4."""
    import socket

    host, port = text.split(":")
    raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return "%s:%d" % (socket.inet_ntop(family, raw).replace("::ffff:", ""), int(port, 16))


def parents() -> dict[int, int]:
    """Return the parent of every process."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        after = read(path).rsplit(")", 1)[-1].split()
        if len(after) > 1:
            found[int(path.split("/")[2])] = int(after[1])
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of a process and theirs, the nearest first."""
    known, found = parents(), [pid]
    for one in found:
        found += [child for child, parent in known.items() if parent == one and child not in found]
    return found[1:]


def command(pid: int) -> str:
    """Return a process's command line, shortened."""
    return read("/proc/%d/cmdline" % pid).replace("\0", " ").strip()[:200]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process, its living and its ended descendants have used."""
    return cpu_of([pid, *descendants(pid)])


def cpu_of(tree: list[int]) -> float:
    """Return the CPU time that these processes and their ended children have used."""
    ticks = 0
    for one in tree:
        after = read("/proc/%d/stat" % one).rsplit(")", 1)[-1].split()
        ticks += sum(int(value) for value in after[11:15]) if len(after) > 14 else 0
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def native_stack(pid: int) -> list[str]:
    """Return the native frames, where a debugger is there and may look."""
    code, text = run(["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "bt 25"], 8) if shutil.which("gdb") else (None, "")
    if code != 0 and shutil.which("eu-stack"):
        code, text = run(["eu-stack", "-p", str(pid), "-n", "25"], 8)
    return [line.strip()[:200] for line in text.splitlines() if re.match(r"\s*#\d+", line)][:25]
