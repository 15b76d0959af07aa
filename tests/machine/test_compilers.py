"""A compiler's version comes from the files around it, as installers lay them; none is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from provisioner.machine.compilers import identify
from provisioner.machine.system import Files, LiveSystem


class Tree(LiveSystem):
    """A folder as if it were a whole machine, on which a program that is started fails the test."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        Files.__init__(self, root)

    def run(self, argv: Sequence[str], *, timeout: float) -> NoReturn:
        raise AssertionError(f"started {argv}")


DPKG = """
Package: clang-16
Status: install ok installed
Version: 1:16.0.6-15~deb12u1

Package: g++-13
Version: 13.3.0-6ubuntu2
"""

LAYOUTS = {
    # what it is: compiler, files, version
    "debian's gcc": ("usr/bin/g++-12", {"usr/bin/g++-12": "\0" + "12.2.0\0", "usr/lib/gcc/x86_64-linux-gnu/12/": ""}, "12.2.0"),
    "gcc in its own prefix": (
        "opt/gcc/bin/g++",
        {"opt/gcc/bin/g++": "", "opt/gcc/lib/gcc/x86_64-pc-linux-gnu/14.2.0/": ""},
        "14.2.0",
    ),
    "gcc with lib64": ("opt/gcc/bin/g++", {"opt/gcc/bin/g++": "", "opt/gcc/lib64/gcc/x86_64-pc-linux-gnu/13.2.0/": ""}, "13.2.0"),
    "two gccs, the driver tells": (
        "usr/bin/g++",
        {"usr/bin/g++": "112.2.0\0" + "13.3.0\0", "usr/lib/gcc/x/12/": "", "usr/lib/gcc/x-y/12/": "", "usr/lib/gcc/x-y/13/": ""},
        "13.3.0",
    ),
    "a lone driver": ("opt/gcc/bin/g++", {"opt/gcc/bin/g++": "9.1\0" + "11.4.0\0"}, "11.4.0"),
    "headers alone": ("opt/gcc/bin/g++", {"opt/gcc/bin/g++": "", "opt/gcc/include/c++/10/": ""}, "10"),
    "a package's gcc": (
        "usr/bin/g++-13",
        {"usr/bin/g++-13": "", "usr/lib/gcc/x86_64-linux-gnu/13/": "", "var/lib/dpkg/status": DPKG},
        "13.3.0",
    ),
    "the name alone": ("usr/bin/g++-13", {"usr/bin/g++-13": ""}, "13"),
    "a wrapper script": (
        "usr/local/bin/g++",
        {
            "usr/local/bin/g++": '#!/bin/sh\nexec /opt/gcc/bin/g++ "$@"\n',
            "opt/gcc/bin/g++": "",
            "opt/gcc/lib/gcc/x-y/13.2.0/": "",
        },
        "13.2.0",
    ),
    "a script that starts who knows what": ("usr/local/bin/g++", {"usr/local/bin/g++": "#!/bin/sh\n"}, None),
    "clang before 16": ("opt/llvm/bin/clang++", {"opt/llvm/bin/clang++": "", "opt/llvm/lib/clang/14.0.6/": ""}, "14.0.6"),
    "clang since 16, its CMake file": (
        "usr/lib/llvm-16/bin/clang++",
        {
            "usr/lib/llvm-16/bin/clang++": "",
            "usr/lib/llvm-16/lib/clang/16/": "",
            "usr/lib/llvm-16/lib/cmake/clang/ClangConfigVersion.cmake": 'set(PACKAGE_VERSION "16.0.6")\n',
        },
        "16.0.6",
    ),
    "clang since 16, its package": (
        "usr/lib/llvm-16/bin/clang++",
        {"usr/lib/llvm-16/bin/clang++": "", "usr/lib/llvm-16/lib/clang/16/": "", "var/lib/dpkg/status": DPKG},
        "16.0.6",
    ),
    "clang since 16, nothing else": ("opt/bin/clang++", {"opt/bin/clang++": "", "opt/lib/clang/18/": ""}, "18"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_version_is_read_from_files(layout: str, tmp_path: Path) -> None:
    compiler, files, version = LAYOUTS[layout]
    for name, content in files.items():
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text(content)
    found = identify(Tree(tmp_path), f"/{compiler}")
    assert (found.version if found else None) == version
    assert found is None or found.kind == ("clang" if "clang" in layout else "gcc")
