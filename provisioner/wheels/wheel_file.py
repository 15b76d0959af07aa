"""Inspecting a wheel that is here as a file: name, metadata, Python files, and every extension in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from provisioner import paths, progress
from provisioner.wheels.archive import Archive
from provisioner.wheels.extension import inspect_extension, starts_as_elf
from provisioner.wheels.filename import WheelName
from provisioner.wheels.inspection import Inspection, Subject, with_extensions
from provisioner.wheels.python_side import interface_files, missing_module


def inspect_wheel(path: Path, against: Path | None = None) -> Inspection:
    """Return what a wheel file holds; its compiled files are unpacked into a scratch folder for that. Raise `MalformedBinary`."""
    with path.open("rb") as stream, paths.scratch_dir("inspect") as folder:
        archive = Archive(stream, path.name)
        empty = describe(archive, path.name, against)
        with progress.task(f"inspect {path.name}", unit="files") as task:
            files = [(info.filename, archive.extract(info.filename, folder)) for info in archive.compiled()]
            beside = sorted({file.parent for _, file in files})
            extensions = []
            for name, file in files:
                if starts_as_elf(file):
                    extensions.append(inspect_extension(file, against=against, name=name, beside=beside))
                task.advance()
    found = with_extensions(empty, extensions)
    return replace(found, kernels=has_kernels(found))


def describe(archive: Archive, filename: str, against: Path | None) -> Inspection:
    """Return what a wheel's name, metadata and Python files say, before any extension is looked at."""
    name = WheelName.parse(filename)
    interfaces = {member: archive.text(member) for member in interface_files(archive.names)}
    metadata = archive.metadata()
    return Inspection(
        filename,
        Subject.WHEEL,
        distribution=name.name,
        version=name.version,
        tags=name.tags,
        torch=name.torch or pinned_torch(metadata.get("requires-dist", [])),
        missing_module=missing_module(name.name, archive.names, interfaces),
        against=str(against) if against else None,
        notes=adapter_note(metadata.get("summary", [])),
    )


def adapter_note(summaries: list[str]) -> tuple[str, ...]:
    """Return what an adapter says of itself in its metadata, nothing for any other distribution (`provisioner.adapter.wheel`)."""
    return tuple(text for text in summaries if text.startswith("Adapter: "))


def has_kernels(found: Inspection) -> bool | None:
    """Say whether there is working device code: False where a module is missing, or where all was read and nothing works."""
    if found.missing_module is not None:
        return False
    if found.working_archs:
        return True
    return False if found.extensions and found.complete else None


def pinned_torch(requirements: list[str]) -> str | None:
    """Return the torch version that the metadata pins exactly, None where it allows several."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        pins = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
        if requirement.name == "torch" and pins:
            return pins[0]
    return None
