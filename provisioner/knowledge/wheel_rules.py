"""What a prebuilt wheel holds beyond its name: architectures, glibc floor, real ABI. Dated rules; `provision inspect` reads the file itself.

All rules were read or measured by 2026-11-24; the threads are those of Dao-AILab/flash-attention unless named.
"""

from __future__ import annotations

import functools

from packaging.version import Version

from provisioner.knowledge.wheel_names import WheelName

OFFICIAL = "Dao-AILab/flash-attention"

_version = functools.lru_cache(maxsize=512)(Version)

ABI_MISLABELLED = "abi-mislabelled"
MISNAMED = "version-misnamed"


def nvcc(name: WheelName, source: str) -> str:
    """Return the CUDA version whose nvcc compiled a wheel.

    Official ones by publish.yml of each tag: 2.8.0.post2 by 12.9.0, 2.8.1 on by 12.9.1 (cu13: 13.0.1), 2.7.x cu12 by 12.3 or 12.4,
    cu11 by 11.8. Everybody else names the minor.
    """
    if "." in name.cuda:
        return name.cuda
    if source != OFFICIAL or name.cuda == "13":
        return f"{name.cuda}.0"
    if name.cuda == "11":
        return "11.8"
    return "12.9" if _version(name.version) >= _version("2.8.0") else "12.4"


def archs(name: WheelName, source: str) -> tuple[str, ...]:
    """Return the compute capabilities with kernels in a wheel; none of the publishers adds PTX.

    setup.py decides: 1.x has 7.5 and 8.0, 2.x has 8.0; both add 9.0 from nvcc 11.8. From 2.7.4 on 10.0 and 12.0 come with nvcc ≥ 12.8.
    The community's builds leave that default alone (build_linux.sh of mjun0812/flash-attention-prebuild-wheels at 2614dc8).
    """
    compiler, version = _version(nvcc(name, source)), _version(name.version)
    if name.distribution == "flash_attn_3":
        return ("8.0", "9.0")
    found = ["7.5", "8.0"] if version < _version("2") else ["8.0"]
    if compiler >= _version("11.8"):
        found.append("9.0")
    if compiler >= _version("12.8") and version >= _version("2.7.4"):
        found += ["10.0", "12.0"]
    return tuple(found)


def glibc(name: WheelName, source: str) -> str | None:
    """Return the oldest glibc on which a Linux wheel is known to load, None on Windows.

    Plain ``linux_x86_64`` tags say nothing: official wheels ≥ 2.8.0 need 2.32 (#1708, #1762, #2225), so do the community's plain ones
    (#2225 shows one); older official ones were built on Ubuntu 20.04 (2.31), lower floors are not shown by anybody.
    On aarch64 the community's audited wheels came out as manylinux_2_34.
    """
    if name.platform.startswith("win"):
        return None
    if name.glibc is not None:
        return name.glibc
    if name.platform == "linux_aarch64":
        return "2.34"
    old = source == OFFICIAL and _version(name.version) < _version("2.8.0")
    return "2.31" if old else "2.32"


def driver_cuda(name: WheelName) -> str | None:
    """Return the CUDA version that the driver must know to load a wheel's kernels, None where minor-version compatibility suffices.

    setup.py of 2.8.1, and of no other release, has nvcc compress them by ``-compress-mode=size`` (sdists of 2.8.1, 2.8.2 and 2.8.3.post2
    read 2026-11-25), which drivers before 550 (CUDA 12.4) answer with `device kernel image is invalid` (#1749, #1750,
    OpenMOSS/MOSS-TTSD#22; 550.54.14 by RAPIDS' rapids_cuda_enable_fatbin_compression).
    """
    return "12.4" if name.version == "2.8.1" and name.distribution == "flash_attn" else None


def real_abi(name: WheelName, source: str) -> bool | None:
    """Return whether a wheel really uses the new C++11 ABI, whatever its label; None where that is not known.

    ``FLASH_ATTENTION_FORCE_CXX11_ABI`` can force the new ABI, never the old one, so a FALSE label is only true where the torch of the build had
    the old ABI: ≤ 2.5, or 2.6 unless cu126. 2.8.x took torch 2.6+cu126 (#1783, #1717). Unlabelled wheels have their torch's ABI.
    """
    if name.platform.startswith("win"):
        return None  # MSVC has no such thing
    if name.abi is True:
        return True
    major, minor = (int(part) for part in name.torch.split(".")[:2])
    if (major, minor) >= (2, 7):
        return True
    if name.platform == "linux_aarch64":
        return None
    if (major, minor) == (2, 6):
        return _version(name.version) >= _version("2.8.0") if source == OFFICIAL else _version(name.cuda) >= _version("12.6")
    return False


def traps(name: WheelName, source: str, release: str) -> tuple[str, ...]:
    """Return the codes of what is wrong with a wheel's name.

    ``abi-mislabelled``: its label is not its ABI. ``version-misnamed``: it was released as another version than it is called
    (v2.8.3.post1 carries files named 2.8.3).
    """
    found = []
    if name.abi is not None and (real := real_abi(name, source)) is not None and real is not name.abi:
        found.append(ABI_MISLABELLED)
    if source == OFFICIAL and release.removeprefix("v") != name.version:
        found.append(MISNAMED)
    return tuple(found)
