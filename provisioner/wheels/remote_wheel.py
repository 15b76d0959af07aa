"""Inspecting a wheel where it lies: the zip's directory, its metadata, and the beginning of each extension, over HTTP ranges.

An extension is one deflated stream, so its section table (at the very end) would cost the whole of it. What matters comes first:
symbols, versions and needed libraries within the first MiB, then code, then device code, one fat binary per translation unit with usually
the same architectures in each. So small members are read whole, and large ones until the budget of `SHARE` of the wheel is spent; the
inspection says ``complete: false`` then, and its archs are those *seen*, not an exhaustive list.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

from provisioner import download, paths, progress
from provisioner.wheels.archive import Archive
from provisioner.wheels.beginning import Beginning, read_beginning
from provisioner.wheels.dry_link import Demand, demand_of
from provisioner.wheels.elf import MAGIC
from provisioner.wheels.extension import count_images, from_linkage, inspect_extension, linked, starts_as_elf
from provisioner.wheels.filename import WheelName
from provisioner.wheels.inspection import Extension, Inspection, sort_archs, with_extensions
from provisioner.wheels.linkage import Linkage
from provisioner.wheels.remote import CHUNK, RemoteFile
from provisioner.wheels.stubs import stub_archs
from provisioner.wheels.wheel_file import describe, has_kernels

SHARE = 0.05
"""Part of a wheel that may be fetched to look into it."""

LEAST = 512 * 1024
"""Bytes that may be fetched of any wheel, however small."""

MOST_INFLATED = 192 * 2**20
"""Bytes of memory that the beginning of one extension may take."""

_MARGIN = 64 * 1024
"""Bytes kept back for what reads overshoot."""

_BUFFER = 8 * 1024
_BLOCK = 32 * 1024
_LOCAL_HEADER = 1024
"""Bytes that stand before a member's data at most: its name and extra fields again."""


def inspect_remote(url: str, against: Path | None = None) -> Inspection:
    """Return what the wheel at ``url`` holds, as far as `SHARE` of its bytes tell.

    Raise `SourceUnreachable` (code ``ranges-unsupported`` where the server knows no ranges) or `MalformedBinary`.
    """
    filename = WheelName.parse(url).filename
    with RemoteFile(url) as file, paths.scratch_dir("inspect") as folder:
        archive = Archive(io.BufferedReader(file, _BUFFER), filename)
        empty = replace(describe(archive, filename, against), subject=download.redact(url))
        extensions = []
        members = archive.compiled()
        with progress.task(f"look into {filename}", total=len(members), unit="files") as task:
            for index, info in enumerate(members):
                left = max(SHARE * file.size, LEAST) - _MARGIN - file.moved
                found = _look_into(archive, info, file, left / (len(members) - index), against, folder)
                extensions += [found] if found else []
                task.advance()
    found_all = with_extensions(empty, extensions)
    return replace(
        found_all,
        kernels=has_kernels(found_all),
        bytes_read=file.moved,
        bytes_total=file.size,
        notes=(*found_all.notes, *_notes(extensions, file)),
    )


def _look_into(
    archive: Archive, info: zipfile.ZipInfo, file: RemoteFile, budget: float, against: Path | None, folder: Path
) -> Extension | None:
    """Return what one member tells for at most ``budget`` bytes; None when it is no ELF file."""
    file.horizon = info.header_offset + _LOCAL_HEADER + min(info.compress_size, int(budget))
    if info.compress_size + _LOCAL_HEADER + CHUNK <= budget:
        path = archive.extract(info.filename, folder)
        found = inspect_extension(path, name=info.filename) if starts_as_elf(path) else None
        if found is None or against is None:
            return found
        return _linked(found, demand_of(path), archive, against)
    data = _first_bytes(archive, info, file, budget)
    if data[:4] != MAGIC:
        return None
    begin = read_beginning(data, info.filename)
    found = replace(_described(info, data, begin), complete=len(data) == info.file_size)
    if against is None or begin.undefined is None or begin.linkage is None:
        return found
    return _linked(found, Demand(begin.undefined, begin.linkage.needed), archive, against)


def _linked(found: Extension, demand: Demand, archive: Archive, against: Path) -> Extension:
    """Link against torch; where the wheel brings a needed library along that was not read, its symbols cannot be judged."""
    result = linked(found, demand, against)
    own = {info.filename.rpartition("/")[2] for info in archive.compiled()}
    if own.isdisjoint(demand.needed):
        return result
    absent = tuple(name for name in result.missing_libraries or () if name not in own)
    return replace(result, undefined=None, missing_libraries=absent)


def _first_bytes(archive: Archive, info: zipfile.ZipInfo, file: RemoteFile, budget: float) -> bytes:
    """Inflate the beginning of a member until ``budget`` bytes were fetched for it."""
    data, start = bytearray(), file.moved
    with archive.member(info.filename) as stream:
        while file.moved - start + _BLOCK <= budget and len(data) < MOST_INFLATED:
            block = stream.read(_BLOCK)
            if not block:
                break
            data += block
    return bytes(data)


def _described(info: zipfile.ZipInfo, data: bytes, begin: Beginning) -> Extension:
    inside = [image for image in begin.images if image.offset + image.size <= len(data)]
    return replace(
        from_linkage(info.filename, info.file_size, begin.linkage or Linkage()),
        archs=sort_archs(image.arch for image in begin.images),
        stubs=sort_archs(stub_archs(data, inside)),
        images=count_images(begin.images),
    )


def _notes(extensions: list[Extension], file: RemoteFile) -> tuple[str, ...]:
    partly = [one for one in extensions if not one.complete]
    if not partly:
        return ()
    images = sum(sum(one.images.values()) for one in partly)
    return (
        f"read {file.moved / file.size:.1%} of the wheel: archs are those of the first {images} pieces of device code in "
        f"{len(partly)} large file{'s' if len(partly) > 1 else ''}; a full list needs the whole wheel",
    )
