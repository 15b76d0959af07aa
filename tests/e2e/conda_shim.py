"""As much of conda as `conda-lock install` calls, over py-rattler: there is no conda on the machines that run the tests."""

from __future__ import annotations

import asyncio
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
    if words[0] == "create":
        return _create(Path(words[words.index("--file") + 1]), Path(prefix))
    if words[0] == "run":
        return _run(Path(prefix), words[words.index(prefix) + 1 :])
    print(f"the shim does not know {words}", file=sys.stderr)
    return 2


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
