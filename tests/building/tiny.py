"""A flash-attn in miniature: a source tree with real CUDA units, and a torch of empty libraries, for the whole engine in seconds."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

from provisioner.building.releases import Release, find_release
from provisioner.building.selection import Direction, all_kernels

CUTLASS = {"fp16": "cutlass::half_t", "bf16": "cutlass::bfloat16_t"}
FUNCTIONS = {
    Direction.FORWARD: ("run_mha_fwd_", "Flash_fwd_params"),
    Direction.BACKWARD: ("run_mha_bwd_", "Flash_bwd_params"),
    Direction.SPLIT: ("run_mha_fwd_splitkv_dispatch", "Flash_fwd_params"),
}

FLASH_H = """
#pragma once
#include <cuda_runtime.h>
#include <cutlass/numeric_types.h>
namespace flash {
struct Flash_fwd_params { int value, num_splits; void *knew_ptr; int *cache_batch_idx, *block_table; };
struct Flash_bwd_params : Flash_fwd_params { bool small; };
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_splitkv_dispatch(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_bwd_(Flash_bwd_params &params, cudaStream_t stream);
}
"""

LAUNCH_H = """
#pragma once
#include <c10/util/Exception.h>
#include "flash.h"
namespace flash {{
template <int Dim, {numbers}, bool, bool, typename T> struct Flash_{way}_kernel_traits {{}};
template <typename Traits, bool Is_dropout, bool Is_causal> void run_flash_{way}(Flash_{way}_params &params, cudaStream_t) {{ params.value = -1; }}
}}
"""
"""Names and parameters are upstream's; a shape does nothing but say that it was compiled."""

SMALL = """
  if (params.small) run_flash_bwd<Flash_bwd_kernel_traits<64, 64, 128, 8, 2, 4, 4, true, false, {dtype}>, false, {causal}>(params, stream);
"""
"""What upstream takes on a GPU with little shared memory, as 8.6: no GPU of a build for sm_90."""

UNIT = """
#include "flash_{way}_launch_template.h"
namespace {{ __device__ int hidden = {dim}; }}
template <int> __global__ void kernel_{name}(int *out) {{ out[threadIdx.x] = hidden; }}
template __global__ void kernel_{name}<0>(int *);
namespace flash {{
template <> void {function}<{dtype}, {dim}, {causal}>({params} &params, cudaStream_t stream) {{
  params.value = {dim};
{small}}}
}}
"""

API = """
#include <Python.h>
#include <c10/util/Exception.h>
#include "flash.h"
#ifdef FLASHATTENTION_DISABLE_DROPOUT
#define DROPOUT 0
#else
#define DROPOUT 1
#endif
template <typename T, int D> int call(bool causal, bool append, bool small) {
  flash::Flash_fwd_params fwd{}; flash::Flash_bwd_params bwd{};
  bwd.small = small;
  if (append) fwd.knew_ptr = &fwd;
  if (causal) { flash::run_mha_fwd_<T, D, true>(fwd, 0); flash::run_mha_fwd_splitkv_dispatch<T, D, true>(fwd, 0); flash::run_mha_bwd_<T, D, true>(bwd, 0); }
  else { flash::run_mha_fwd_<T, D, false>(fwd, 0); flash::run_mha_fwd_splitkv_dispatch<T, D, false>(fwd, 0); flash::run_mha_bwd_<T, D, false>(bwd, 0); }
  return fwd.value + bwd.value;
}
static PyObject *run(PyObject *, PyObject *args) {
  int dim, bf16, causal, append = 0, small = 0;
  if (!PyArg_ParseTuple(args, "iii|ii", &dim, &bf16, &causal, &append, &small)) return nullptr;
  try {
    if (dim == 32) return PyLong_FromLong(bf16 ? call<cutlass::bfloat16_t, 32>(causal, append, small) : call<cutlass::half_t, 32>(causal, append, small));
    return PyLong_FromLong(bf16 ? call<cutlass::bfloat16_t, 64>(causal, append, small) : call<cutlass::half_t, 64>(causal, append, small));
  } catch (const std::exception &error) { PyErr_SetString(PyExc_RuntimeError, error.what()); return nullptr; }
}
static PyMethodDef methods[] = {{"run", run, METH_VARARGS, ""}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", "", -1, methods};
PyMODINIT_FUNC PyInit_flash_attn_2_cuda() {
  PyObject *module = PyModule_Create(&definition);
  PyModule_AddIntConstant(module, "dropout", DROPOUT);
  return module;
}
"""

EXCEPTION_H = """
#pragma once
#include <stdexcept>
namespace c10 { void nowhere(); }
#define TORCH_CHECK(condition, text) do { if (!(condition)) throw std::runtime_error(text); } while (0)
"""


def tiny_release(folder: Path, *, broken: str | None = None, unresolved: bool = False) -> tuple[Release, Path]:
    """Return a release with two head dims and its sdist in ``folder``.

    The unit named ``broken`` does not compile; with ``unresolved`` the host code calls a function of torch that no torch has.
    """
    release = replace(find_release("2.8.3.post2"), head_dims=(32, 64), packages=("flash_attn",))
    root = f"flash_attn-{release.version}"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: flash_attn\nVersion: {release.version}\nRequires-Python: >=3.9\n\nTiny.\n",
        "LICENSE": "BSD\n",
        "flash_attn/__init__.py": f'__version__ = "{release.version}"\nimport flash_attn_2_cuda\n',
        release.api: API.replace("int dim, bf16", "c10::nowhere(); int dim, bf16") if unresolved else API,
        f"{release.sources}/flash.h": FLASH_H,
        "csrc/cutlass/include/cutlass/numeric_types.h": "#pragma once\nnamespace cutlass { struct half_t {}; struct bfloat16_t {}; }\n",
    }
    for way in ("fwd", "bwd"):
        files[f"{release.sources}/flash_{way}_launch_template.h"] = LAUNCH_H.format(
            way=way, numbers=", ".join(["int"] * (3 if way == "fwd" else 6))
        )
    for kernel in all_kernels(release):
        function, params = FUNCTIONS[kernel.direction]
        assert kernel.dtype is not None
        source = kernel.unit(release)
        text = UNIT.format(
            name=Path(source).stem,
            function=function,
            dtype=CUTLASS[kernel.dtype],
            dim=kernel.head_dim,
            causal=str(kernel.causal).lower(),
            params=params,
            way="bwd" if kernel.direction is Direction.BACKWARD else "fwd",
            small="",
        )
        if kernel.direction is Direction.BACKWARD and kernel.head_dim == 64:
            small = SMALL.format(dtype=CUTLASS[kernel.dtype], causal=str(kernel.causal).lower())
            text = text.replace("params.value = 64;\n", f"params.value = 64;\n{small}")
        files[source] = "#error planted\n" if Path(source).stem == broken else text
    archive = folder / release.filename
    with gzip.GzipFile(archive, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as bundle:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size = len(text.encode())
            bundle.addfile(info, io.BytesIO(text.encode()))
    data = archive.read_bytes()
    return replace(release, sha256=hashlib.sha256(data).hexdigest(), size=len(data)), archive


def tiny_python(folder: Path, *, torch: str = "2.13.0+cu130", cuda: str = "13.0") -> Path:
    """Return an interpreter in a new environment whose torch is headers and empty libraries."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next((folder / "lib").glob("python3*")) / "site-packages" / "torch"
    for name in ("include/c10/util", "include/torch/csrc/api/include", "lib"):
        (site / name).mkdir(parents=True)
    (site / "include" / "c10" / "util" / "Exception.h").write_text(EXCEPTION_H)
    (site / "version.py").write_text(f"__version__ = '{torch}'\ncuda: object = '{cuda}'\ngit_version = 'abc'\n")
    for name in ("c10", "c10_cuda", "torch_cpu", "torch_cuda", "torch", "torch_python"):
        subprocess.run(["g++", "-shared", "-x", "c++", "/dev/null", "-o", site / "lib" / f"lib{name}.so"], check=True)
    for runtime in Path("/usr/local/cuda/lib64").glob(f"libcudart.so.{cuda.partition('.')[0]}"):
        (site / "lib" / runtime.name).symlink_to(runtime)  # beside torch, where NVIDIA's wheels put it
    return folder / "bin" / "python"
