"""Real binaries for the tests of this package: compiled here by gcc and nvcc, once per session, and wheels built around them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CODES = ("75", "80", "90", "90a", "100f", "120a", "ptx90", "ptx90a", "ptx100f")
ARCHS = ("sm_75", "sm_80", "sm_90", "sm_90a", "sm_100f", "sm_120a", "compute_90", "compute_90a", "compute_100f")
CUDA_SOURCE = """
extern "C" __global__ void scale(float *x, float a) { x[threadIdx.x] *= a; }
extern "C" void launch(float *x) { scale<<<1, 32>>>(x, 2.f); }
"""
STUB_SOURCE = """
extern "C" int printf(const char *, ...);
__global__ void flash_fwd_kernel(float *x) {
#if __CUDA_ARCH__ >= 800
    for (int i = 0; i < 64; ++i) x[threadIdx.x + i] += x[threadIdx.x] * i;
#else
    printf("FATAL: FlashAttention requires building with sm version sm80-sm90, but was built for < 8.0!");
#endif
}
extern "C" void launch(float *x) { flash_fwd_kernel<<<1, 32>>>(x); }
"""


def compiler(name: str) -> str:
    """Return the path of a compiler, or skip the test with the reason."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin:/opt/cuda/bin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def compile_file(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def nvcc() -> str:
    return compiler("nvcc")


@pytest.fixture(scope="session")
def gxx() -> str:
    return compiler("g++")


def gencode(*codes: str) -> list[str]:
    """Return nvcc's options for binaries of ``codes``; a code ``ptx90`` is PTX."""
    options = []
    for code in codes:
        number = code.removeprefix("ptx")
        options += ["-gencode", f"arch=compute_{number},code={'compute' if code.startswith('ptx') else 'sm'}_{number}"]
    return options


@pytest.fixture(scope="session")
def build_cuda(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that compiles CUDA source into a shared library for the given codes (each combination once)."""
    made: dict[tuple[str, ...], Path] = {}

    def build(*codes: str, source: str = CUDA_SOURCE, options: tuple[str, ...] = ()) -> Path:
        key = (*codes, source, *options)
        if key not in made:
            folder = tmp_path_factory.mktemp("cuda")
            (folder / "k.cu").write_text(source)
            target = folder / "k.so"
            base = [nvcc, "-shared", "-Xcompiler", "-fPIC", "-cudart", "shared", "--threads", "2"]
            compile_file([*base, *gencode(*codes), *options, str(folder / "k.cu"), "-o", str(target)])
            made[key] = target
        return made[key]

    return build


@pytest.fixture(scope="session")
def extension(build_cuda: Callable[..., Path]) -> Path:
    """A CUDA extension with device code for all of `CODES`: plain, architecture-specific, family-specific, and PTX of each."""
    return build_cuda(*CODES)


@pytest.fixture(scope="session")
def build_cxx(gxx: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that compiles C++ source into ``name`` with further options, in a folder of its own."""

    def build(source: str, *options: str, name: str = "x.so") -> Path:
        folder = tmp_path_factory.mktemp("cxx")
        (folder / "x.cpp").write_text(source)
        compile_file([gxx, "-shared", "-fPIC", str(folder / "x.cpp"), *options, "-o", str(folder / name)])
        return folder / name

    return build


def make_wheel(path: Path, members: Mapping[str, bytes | str | Path], *, requires: str = "") -> Path:
    """Write a wheel with these members and the metadata that its name implies."""
    name, version = path.name.split("-")[:2]
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            archive.writestr(member, data)
        archive.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
    return path


INTERFACE = "import os\nif os.environ.get('ROCM'):\n    from . import x\nelse:\n    import flash_attn_2_cuda as flash_attn_gpu\n"
"""How flash-attn 2's Python side gets at its kernels."""


CORE_SOURCE = """
#include <string>
namespace c10 {
struct SourceLocation { const char *a, *b; int l; };
struct Error { Error(SourceLocation, std::string); };
Error::Error(SourceLocation, std::string) {}
int kept(int x) { return x; }
}
"""
EXTENSION_SOURCE = """
#include <string>
extern "C" int PyLong_FromLong(long);
namespace c10 {
struct SourceLocation { const char *a, *b; int l; };
struct Error { Error(SourceLocation, std::string); };
int kept(int);
int renamed(int);
}
extern "C" int use(int x) {
    if (x) throw c10::Error({"f", "g", 1}, "message");
    PyLong_FromLong(1);
#ifdef PLANTED
    c10::renamed(x);
#endif
    return c10::kept(x);
}
"""


@dataclass(frozen=True)
class Environment:
    """A prefix with a torch whose libc10.so really is one library, compiled here, and nothing else."""

    prefix: Path
    site: Path

    @property
    def lib_dir(self) -> Path:
        return self.site / "torch" / "lib"

    def install(self, name: str, version: str, files: Mapping[str, bytes | str | Path]) -> None:
        """Put a distribution there as pip would: its files and a dist-info with RECORD."""
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        written = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
        for path, content in written.items():
            target = self.site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(
                content.read_bytes() if isinstance(content, Path) else content.encode() if isinstance(content, str) else content
            )
        (self.site / info / "RECORD").write_text("".join(f"{path},,\n" for path in [*written, f"{info}/RECORD"]))


def core_library(build_cxx: Callable[..., Path], *, abi: int = 1) -> Path:
    return build_cxx(CORE_SOURCE, f"-D_GLIBCXX_USE_CXX11_ABI={abi}", "-Wl,-soname,libc10.so", name="libc10.so")


@pytest.fixture(scope="session")
def environment(build_cxx: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    prefix = tmp_path_factory.mktemp("env")
    found = Environment(prefix, prefix / "lib" / "python3.12" / "site-packages")
    version = "__version__ = '2.9.1+cu128'\ndebug = False\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
    found.install("torch", "2.9.1+cu128", {"torch/version.py": version, "torch/lib/libc10.so": core_library(build_cxx)})
    return found


@pytest.fixture(scope="session")
def sound(build_cxx: Callable[..., Path], environment: Environment) -> Path:
    """An extension that this environment's torch satisfies."""
    return build_cxx(EXTENSION_SOURCE, f"-L{environment.lib_dir}", "-lc10", name="flash_attn_2_cuda.so")


@pytest.fixture(scope="session")
def planted(build_cxx: Callable[..., Path], environment: Environment) -> Path:
    """The same extension with one symbol that no library defines."""
    return build_cxx(EXTENSION_SOURCE, "-DPLANTED", f"-L{environment.lib_dir}", "-lc10", name="flash_attn_2_cuda.so")


def entry(kind: int, sm: int, flags: int, payload: bytes) -> bytes:
    """Return one entry of a fat binary as nvcc writes it."""
    fields = (kind, 0x101, 64, len(payload), 0, 0, 8, 1, sm, 0, 0, flags, 0, 0)
    return struct.pack("<HHIQIIHHIIIQQQ", *fields) + payload


def container(*entries: bytes) -> bytes:
    """Return a fat binary with these entries."""
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
