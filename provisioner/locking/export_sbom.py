"""A lock as a software bill of materials: CycloneDX 1.6 JSON, made by the project's own library."""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from provisioner import __version__, codec
from provisioner.locking.values import TOOLCHAIN, Lock, LockedPackage

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

FACTS = ("recipe", "route", "gpu-classes", "driver-floor", "cuda", "python", "snapshot", "plan-digest")
"""The facts of ``custom_metadata`` that stand as properties of the environment."""


def cyclonedx(locks: Sequence[Lock]) -> str:
    """Return the bill of materials of one platform: every file with its purl, hashes, address and what it requires.

    The compiler that a build fetches has the scope ``excluded``: it is no part of the environment. The same lock gives the same bytes, so
    the serial number is made of the lock, and a time stands there only where ``SOURCE_DATE_EPOCH`` states one.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    (lock,) = locks
    packages = sorted(lock.packages, key=lambda package: (package.manager, package.name, package.url))
    rows = [(package, _component(package)) for package in packages]
    bom = Bom(components=[component for _, component in rows], serial_number=uuid.UUID(codec.digest(lock)[:32], version=5))
    _describe(bom, lock)
    _require(bom, rows)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    if (epoch := os.environ.get("SOURCE_DATE_EPOCH", "")).isdigit():
        document["metadata"]["timestamp"] = dt.datetime.fromtimestamp(int(epoch), dt.timezone.utc).isoformat()
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _describe(bom: Bom, lock: Lock) -> None:
    """State what the bill is of: the environment, for which platform and machines, and which tool wrote it."""
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    stated = {name: lock.metadata.get(f"provision-{name}") for name in FACTS}
    properties = [
        Property(name=f"provision:{name}", value=value) for name, value in {"platform": lock.platform, **stated}.items() if value
    ]
    bom.metadata.component = Component(
        name="environment", type=ComponentType.APPLICATION, bom_ref="environment", properties=properties
    )
    bom.metadata.tools.components.add(
        Component(name="provision", version=__version__, type=ComponentType.APPLICATION, bom_ref="provision")
    )


def _component(package: LockedPackage) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentScope, ComponentType

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)]
    if package.md5:
        hashes.append(HashType(alg=HashAlgorithm.MD5, content=package.md5))
    purl = _purl(package)
    return Component(
        name=package.name,
        version=package.stated_version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        scope=ComponentScope.EXCLUDED if package.category == TOOLCHAIN else ComponentScope.REQUIRED,
        hashes=hashes,
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(package.url), hashes=hashes)],
    )


def _purl(package: LockedPackage) -> PackageURL:
    """Return the package URL; its types ``conda`` and ``pypi`` name these qualifiers (packageurl-python 0.17.6 ``validate.py``, read 2026-11-27)."""
    from packageurl import PackageURL

    if package.manager == "pip":
        return PackageURL("pypi", None, package.name, package.stated_version, {"file_name": package.filename})
    channel, subdir, filename = package.url.rsplit("/", 2)
    suffix = "tar.bz2" if filename.endswith(".tar.bz2") else "conda"
    named = {"channel": urlsplit(channel).path.rsplit("/", 1)[-1], "subdir": subdir, "build": package.build or "", "type": suffix}
    return PackageURL("conda", None, package.name, package.version, {key: value for key, value in named.items() if value})


def _require(bom: Bom, rows: Sequence[tuple[LockedPackage, Component]]) -> None:
    """State who requires whom: each package what it names, found with its own manager first; the environment what nobody else requires."""
    by_name = {(package.manager, package.name): component for package, component in rows}
    required = set()
    for package, component in rows:
        order = (package.manager, "conda" if package.manager == "pip" else "pip")
        found = [next((by_name[kind, name] for kind in order if (kind, name) in by_name), None) for name in package.dependencies]
        needed = [other for other in found if other is not None and other is not component]
        required |= {other.bom_ref.value for other in needed}
        bom.register_dependency(component, needed)
    assert bom.metadata.component is not None
    bom.register_dependency(
        bom.metadata.component, [component for _, component in rows if component.bom_ref.value not in required]
    )
