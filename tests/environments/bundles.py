"""A small lock over real wheels and conda packages on a server of the test, and the bundle made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from provisioner import codec, download
from provisioner.environments.bundling import make_bundle, order
from provisioner.locking.conda_lock_file import write_lock
from provisioner.locking.values import Lock, LockedPackage
from provisioner.planning.values import Plan, Route
from tests.conda_channel import PLATFORM, add_package
from tests.distributions import make_wheel


def plan(backend: str = "venv", route: Route = Route.NONE) -> Plan:
    """A plan without flash-attn: what the bundle does with files does not depend on it."""
    return Plan("cpu", route, "3.12", "2.8.0", None, None, backend=backend, driver_floor="535.54.03")


def write_files(root: Path, names: Sequence[str] = ("toy", "lib")) -> None:
    """Write one wheel for each name and one conda package, served from ``root``."""
    for name in names:
        make_wheel(root / "files", name, "1.0", files={f"{name}/__init__.py": "x = 1\n" * 50_000, f"{name}/data": name * 9999})
    add_package(root / "channel", "tool", "1.0", {"bin/tool": (b"tool", 0o755)})


def lock_of(root: Path, url: str, path: Path, *, backend: str = "venv") -> Path:
    """Write the lock over everything in ``root``, with addresses below ``url``, to ``path``."""
    packages = [
        LockedPackage(file.name.split("-")[0], "1.0", "pip", PLATFORM, f"{url}/files/{file.name}", download.file_sha256(file))
        for file in sorted((root / "files").iterdir())
    ]
    for file in sorted((root / "channel" / PLATFORM).glob("*.conda")):
        row = json.loads((file.parent / "repodata.json").read_text())["packages.conda"][file.name]
        address = f"{url}/channel/{PLATFORM}/{file.name}"
        packages.append(
            LockedPackage("tool", "1.0", "conda", PLATFORM, address, row["sha256"], row["md5"], row["size"], build="0")
        )
    text = json.dumps(codec.to_builtins(plan(backend)), sort_keys=True)
    write_lock(Lock(PLATFORM, tuple(packages), (f"{url}/channel",), {"provision-plan": text}), path)
    return path


def bundle_here(root: Path, output: Path, *, backend: str = "conda") -> Path:
    """Make files, lock and bundle below ``root`` without any server, and return the bundle."""
    write_files(root)
    lock = lock_of(root, root.as_uri(), root / "conda-lock.yml", backend=backend)
    make_bundle(order(lock, output))
    return output
