"""The adapter in a lock: it lies at no URL, so its version and digests stand in the lock's metadata.

Where nothing is compiled, the wheel is the same for the same ``provision``, and its sha256 stands there too. Compiled kernels depend on the
compilers of the machine: the lock then holds their sdist (category ``source``), and the build key appears in the wheel's own record.
"""

from __future__ import annotations

import json

from provisioner import __version__, download, paths
from provisioner.adapter.kernels import AdapterVersion, Kernels
from provisioner.adapter.sources import sources_sha256
from provisioner.errors import IntegrityError
from provisioner.locking.values import Lock

ADAPTER = "provision-adapter"
"""The key in the lock's metadata."""


def adapter_record(version: AdapterVersion) -> str:
    """Return the adapter's entry in a lock's metadata, as JSON text: the same for the same version and ``provision``."""
    record = {"version": str(version), "sources_sha256": sources_sha256()}
    if version.kernels is Kernels.ATEN:
        record["wheel_sha256"] = pure_wheel_sha256(version)
    return json.dumps(record, separators=(",", ":"), sort_keys=True)


def pure_wheel_sha256(version: AdapterVersion) -> str:
    """Return the sha256 of the wheel without compiled kernels."""
    from provisioner.adapter.wheel import provenance, write_adapter

    with paths.scratch_dir("adapter") as folder:
        return download.file_sha256(write_adapter(folder, version, provenance(version), None))


def check_locked(lock: Lock, version: AdapterVersion) -> None:
    """Raise `IntegrityError` when the lock names another adapter than the one that would be made here.

    A lock without an entry (made by `install` for an environment that is somebody else's) names none.
    """
    text = lock.metadata.get(ADAPTER)
    if text is None:
        return
    if text != adapter_record(version):
        maker = lock.metadata.get("provision-version", "another provision")
        raise IntegrityError(
            f"the lock's adapter is not the one that provision {__version__} makes",
            why=f"the lock was made by provision {maker}: {text}",
            hints=[f"use provision {maker}", "or lock again: provision lock"],
        )
