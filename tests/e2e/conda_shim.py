"""As much of conda as conda-lock calls, over py-rattler: there is no conda on the machines that run the tests."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn


def main(words: list[str]) -> int:
    prefix = words[words.index("--prefix") + 1] if "--prefix" in words else ""
    if "--version" in words:
        print("conda 24.9.0")
        return 0
    if words[0] == "create" and "--dry-run" in words:
        return _solve(words)
    if words[0] == "create":
        return _create(Path(words[words.index("--file") + 1]), Path(prefix))
    if words[0] == "run":
        return _run(Path(prefix), words[words.index(prefix) + 1 :])
    print(f"the shim does not know {words}", file=sys.stderr)
    return 2


def _solve(words: list[str]) -> int:
    """Print what `conda create --dry-run --json` prints of a solution: the packages with their addresses and hashes."""
    from rattler import BuildString, Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Subdir, Version, solve

    channels = [word for flag, word in itertools.pairwise(words) if flag == "--channel" and "://127.0.0.1" in word]
    taken = {words[index + 1] for index, word in enumerate(words) if word in ("--channel", "--prefix")}
    specs = [word for word in words[1:] if not word.startswith("-") and word not in taken]
    stated = (("__unix", "0"), ("__linux", "5.10"), ("__glibc", "2.31"))
    records = asyncio.run(
        solve(
            sources=[Channel(url) for url in channels],
            specs=[MatchSpec(spec, strict=False) for spec in specs],
            platforms=[Subdir("linux-64"), Subdir("noarch")],
            virtual_packages=[GenericVirtualPackage(PackageName(n), Version(v), BuildString("0")) for n, v in stated],
            gateway=Gateway(),
        )
    )
    rows = [
        {
            **{"name": record.name.normalized, "version": str(record.version), "url": str(record.url), "fn": record.file_name},
            **{"md5": record.md5.hex(), "sha256": record.sha256.hex(), "depends": list(record.depends), "channel": channels[0]},
        }
        for record in records
        if record.md5 and record.sha256
    ]
    print(json.dumps({"success": True, "actions": {"FETCH": rows, "LINK": rows}}))
    return 0


def _create(explicit: Path, prefix: Path) -> int:
    from rattler import BuildString, PackageRecord, RepoDataRecord, install

    records = []
    for line in explicit.read_text().splitlines():
        if "://" not in line or line.startswith("#"):
            continue
        url, _, md5 = line.partition("#")
        channel, subdir, filename = url.rsplit("/", 2)
        name, version, build = filename.removesuffix(".conda").rsplit("-", 2)
        record = PackageRecord(name, version, BuildString(build), 0, subdir, md5=bytes.fromhex(md5))
        records.append(RepoDataRecord(record, filename, url, channel))
    asyncio.run(install(records, target_prefix=prefix, cache_dir=prefix.with_name("shim-cache"), show_progress=False))
    return 0


def _run(prefix: Path, words: list[str]) -> int:
    words = [word for word in words if word not in ("--no-capture-output", "--live-stream")]
    env = {**os.environ, "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "CONDA_PREFIX": str(prefix)}
    if words[0] == "pip":
        words = [str(prefix / "bin/python"), "-m", *words]
    return subprocess.run(words, env=env).returncode


def leave(code: int) -> NoReturn:
    """End at once: py-rattler can crash while the interpreter is finalised."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
