"""The manifest of an environment: what it is, what it was made from, and what proved it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner import codec, paths
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan
from provisioner.verifying.receipt import Receipt

FOLDER = ".provision"
LOCK_NAME = "conda-lock.yml"


@dataclass(frozen=True, slots=True)
class Manifest:
    """``PREFIX/.provision/manifest.json``. ``created_at`` is UTC, ISO 8601; ``previous`` the generation it replaced.

    ``link`` is the absolute path of the name that was switched to it: generations of several folders of environments lie side by side.

    ``receipt`` is None when verification was skipped (``--no-verify``). ``lock_made_by`` names the tool that wrote the lock, and ``bundle``
    is the digest of the bundle that the files came from, None where they were fetched.
    """

    name: str
    generation: str
    backend: str
    created_at: str
    provision: str
    plan: Plan
    machine: Machine
    lock_sha256: str
    flash_attn_wheel_sha256: str | None = None
    receipt: Receipt | None = None
    previous: str | None = None
    lock_made_by: str = "provision"
    bundle: str | None = None
    link: str | None = None
    schema: int = codec.SCHEMA


def manifest_path(prefix: Path) -> Path:
    """Return where the manifest of the environment in ``prefix`` lies."""
    return prefix / FOLDER / "manifest.json"


def read_manifest(prefix: Path) -> Manifest:
    """Return the manifest of ``prefix``. Raise `UsageError` when it is missing or unreadable."""
    return codec.read_json(manifest_path(prefix), Manifest)


def write_manifest(prefix: Path, manifest: Manifest) -> None:
    """Write the manifest; from then on the generation counts as complete. Raise `UsageError` where it could not be read back."""
    text = codec.to_json(manifest)
    codec.from_json(text, Manifest, what="the manifest")
    paths.write_atomic(manifest_path(prefix), text)
