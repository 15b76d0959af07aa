"""A small world on loopback: a package index, a release list in GitHub's shape, and wheels of the real names, versions and tags.

The packages are small but real: they resolve, install and import; the flash-attn wheel holds an extension with real device code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conda_channel import add_package, make_channel
from tests.distributions import make_wheel
from tests.servers import FileServer, serve, write_index

TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
PLATFORM_TAG = f"{TAG}-{TAG}-manylinux_2_28_x86_64"

SECONDS = 300.0
TORCH = "2.7.1"
CUDA = "12.6"
FLASH_ATTN = f"flash_attn-2.8.0.post2+cu12torch2.7cxx11abiTRUE-{TAG}-{TAG}-linux_x86_64.whl"
RELEASE = "Dao-AILab/flash-attention/releases/download/v2.8.0.post2"

TORCH_INIT = """
from torch.version import __version__
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
    get_arch_list = staticmethod(lambda: [])

# What the 2.x adapter names where it is imported: types for its signatures, and how operators are registered.
from torch import library, nn
from torch.library import ops
Tensor = type("Tensor", (), {})
device = dtype = type("dtype", (), {})
float16, bfloat16, float32, int32, int64 = (dtype() for _ in range(5))
class autograd:
    Function = type("Function", (), {})
"""
TORCH_LIBRARY = """
class ops:
    flash_attn = type("flash_attn", (), {})

def custom_op(name, **options):
    def declared(function):
        setattr(ops.flash_attn, name.partition("::")[2], function)
        function.register_fake = function.register_autograd = lambda other, **more: other
        return function
    return declared
"""
SMI = """#!{python}
import json, sys
for run in json.load(open({capture!r})):
    if run["argv"][1:] == sys.argv[1:]:
        sys.stdout.write("\\n".join(run["out"]))
        sys.exit(run["code"])
sys.exit(2)
"""
UNSLOTH_INIT = 'raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.")\n'


@dataclass(frozen=True, slots=True)
class World:
    """The served folder, its server and the variables that make `provision` see it."""

    root: Path
    server: FileServer
    environ: dict[str, str]
    home: Path

    def provision(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in this world."""
        command = [sys.executable, "-m", "provisioner", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env={**self.environ, **more})

    def document(self, *words: str, **more: str) -> dict[str, Any]:
        """Run with ``--json``, which must exit 0, and return the document."""
        run = self.provision(*words, "--json", **more)
        assert run.returncode == 0, run.stdout + run.stderr
        document: dict[str, Any] = json.loads(run.stdout)
        return document

    def give_driver(self, capture: str) -> None:
        """Put an nvidia-smi on PATH that says what the one of a captured machine said."""
        program = self.home / "bin/nvidia-smi"
        program.parent.mkdir()
        said = Path(__file__).parents[1] / "machines" / capture / "programs.json"
        program.write_text(SMI.format(python=sys.executable, capture=str(said)))
        program.chmod(0o755)
        self.environ["PATH"] = f"{program.parent}:{self.environ['PATH']}"


COMPILER = b'#!/bin/sh\nexec gcc "$@"\n'


def give_channel(world: World) -> None:
    """Serve a conda channel with a compiler too, and take the wheel index from the world's release list."""
    channel = make_channel(world.root / "channel")
    add_package(channel, "gcc_linux-64", "14.4.0", {"bin/x86_64-conda-linux-gnu-cc": (COMPILER, 0o755)})
    assert world.provision("knowledge", "update", "--official-only").returncode == 0


@contextmanager
def make_world(root: Path, *, flash_attn: bool = True) -> Iterator[World]:
    """Serve a fresh world from ``root`` while the block runs; without ``flash_attn`` its wheel has no device code, which needs nvcc."""
    _write_packages(root / "files", root / "build")
    wheel = root / RELEASE / FLASH_ATTN
    if flash_attn:
        _write_flash_attn(wheel, root / "build")
    else:
        wheel.parent.mkdir(parents=True)
        tag = f"{TAG}-{TAG}-linux_x86_64"
        make_wheel(root / "build", "flash-attn", "2.8.0.post2", tag=tag, requires=["torch", "einops"]).rename(wheel)
    write_index(root)
    home = root / "home"
    home.mkdir()
    with serve(root) as server:
        _write_release_list(root, server.url, wheel)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PROVISION_"))}
        environ |= {
            "PIP_CONFIG_FILE": os.devnull,
            "UV_DEFAULT_INDEX": f"{server.url}/simple",
            "UV_HTTP_RETRIES": "0",
            "PROVISION_RELEASES_API": server.url,
            "PROVISION_MIRRORS": f"https://github.com={server.url} https://conda.anaconda.org={server.url}/conda",
            "PROVISION_DATA_DIR": str(home / "data"),
            "PROVISION_CACHE_DIR": str(home / "cache"),
            "HOME": str(home),
        }
        yield World(root, server, environ, home)


def _write_packages(files: Path, build: Path) -> None:
    library = _compile(build, "c10", "int c10_version(void) { return 1; }\n")
    runtime = f"{CUDA}.77"
    make_wheel(
        files,
        "torch",
        TORCH,
        tag=PLATFORM_TAG,
        files={
            "torch/__init__.py": TORCH_INIT,
            "torch/version.py": f"__version__ = '{TORCH}+cu126'\ncuda = '{CUDA}'\ngit_version = '{'0' * 40}'\n",
            "torch/library.py": TORCH_LIBRARY,
            "torch/nn/__init__.py": "",
            "torch/nn/functional.py": "def pad(tensor, widths, value=None):\n    raise NotImplementedError\n",
            "torch/lib/libc10.so": library.read_bytes(),
        },
        requires=[f"nvidia-cuda-runtime-cu12=={runtime}", "triton==3.3.1"],
    )
    make_wheel(files, "nvidia-cuda-runtime-cu12", runtime, tag="py3-none-manylinux2014_x86_64")
    make_wheel(files, "triton", "3.3.1", tag=PLATFORM_TAG)
    make_wheel(
        files,
        "xformers",
        "0.0.31.post1",
        files={"xformers/__init__.py": "", "xformers/ops/__init__.py": ""},
        requires=[f"torch=={TORCH}"],
    )
    make_wheel(
        files, "unsloth", "2026.10.9", files={"unsloth/__init__.py": UNSLOTH_INIT}, requires=["unsloth-zoo", "torch>=2.4,<2.15"]
    )
    versions = {"unsloth-zoo": "2026.10.9", "bitsandbytes": "0.50.2", "trl": "1.15.0", "peft": "0.21.2", "transformers": "5.17.0"}
    for name, version in {**versions, "einops": "0.8.2", "pip": "26.0"}.items():
        make_wheel(files, name, version)


def _write_flash_attn(wheel: Path, build: Path) -> None:
    source = build / "kernel.cu"
    source.write_text(
        "__global__ void kernel(float *x) { x[threadIdx.x] *= 2; }\nvoid launch(float *x) { kernel<<<1, 32>>>(x); }\n"
    )
    extension = build / f"flash_attn_2_cuda.cpython-{TAG[2:]}-x86_64-linux-gnu.so"
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    codes = ["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=sm_90"]
    words = [nvcc, "-shared", "-cudart=static", "-Xcompiler=-fPIC", *codes, str(source), "-o", str(extension)]
    subprocess.run(words, check=True, timeout=300)
    made = make_wheel(
        build,
        "flash-attn",
        "2.8.0.post2",
        tag=f"{TAG}-{TAG}-linux_x86_64",
        files={"flash_attn/__init__.py": "__version__ = '2.8.0.post2'\n", extension.name: extension.read_bytes()},
        requires=["torch", "einops"],
    )
    wheel.parent.mkdir(parents=True)
    made.rename(wheel)


def _compile(build: Path, name: str, code: str) -> Path:
    build.mkdir(exist_ok=True)
    source, library = build / f"{name}.c", build / f"lib{name}.so"
    source.write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True, timeout=60)
    return library


def _write_release_list(root: Path, url: str, wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    address = f"https://github.com/{RELEASE}/{FLASH_ATTN}".replace("+", "%2B")
    asset = {"name": FLASH_ATTN, "browser_download_url": address, "size": wheel.stat().st_size, "digest": f"sha256:{digest}"}
    place = root / "repos/Dao-AILab/flash-attention/releases"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps([{"tag_name": "v2.8.0.post2", "assets": [asset]}]))
    page = root / "Dao-AILab/flash-attention/releases/index.html"
    page.write_text("<html></html>")
