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
struct Flash_fwd_params { int value; };
struct Flash_bwd_params : Flash_fwd_params {};
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_fwd_splitkv_dispatch(Flash_fwd_params &params, cudaStream_t stream);
template <typename T, int Headdim, bool Is_causal> void run_mha_bwd_(Flash_bwd_params &params, cudaStream_t stream);
}
"""

UNIT = """
#include "flash.h"
__global__ void kernel_{name}(int *out) {{ out[threadIdx.x] = {dim}; }}
namespace flash {{
template <> void {function}<{dtype}, {dim}, {causal}>({params} &params, cudaStream_t) {{ params.value = {dim}; }}
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
template <typename T, int D> int call(bool causal) {
  flash::Flash_fwd_params fwd{}; flash::Flash_bwd_params bwd{};
  if (causal) { flash::run_mha_fwd_<T, D, true>(fwd, 0); flash::run_mha_fwd_splitkv_dispatch<T, D, true>(fwd, 0); flash::run_mha_bwd_<T, D, true>(bwd, 0); }
  else { flash::run_mha_fwd_<T, D, false>(fwd, 0); flash::run_mha_fwd_splitkv_dispatch<T, D, false>(fwd, 0); flash::run_mha_bwd_<T, D, false>(bwd, 0); }
  return fwd.value + bwd.value;
}
static PyObject *run(PyObject *, PyObject *args) {
  int dim, bf16, causal;
  if (!PyArg_ParseTuple(args, "iii", &dim, &bf16, &causal)) return nullptr;
  try {
    if (dim == 32) return PyLong_FromLong(bf16 ? call<cutlass::bfloat16_t, 32>(causal) : call<cutlass::half_t, 32>(causal));
    return PyLong_FromLong(bf16 ? call<cutlass::bfloat16_t, 64>(causal) : call<cutlass::half_t, 64>(causal));
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
#define TORCH_CHECK(condition, text) do { if (!(condition)) throw std::runtime_error(text); } while (0)
"""


def tiny_release(folder: Path, *, broken: str | None = None) -> tuple[Release, Path]:
    """Return a release with two head dims and its sdist in ``folder``; the unit named ``broken`` does not compile."""
    release = replace(find_release("2.8.3.post2"), head_dims=(32, 64), packages=("flash_attn",))
    root = f"flash_attn-{release.version}"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: flash_attn\nVersion: {release.version}\nRequires-Python: >=3.9\n\nTiny.\n",
        "LICENSE": "BSD\n",
        "flash_attn/__init__.py": f'__version__ = "{release.version}"\nimport flash_attn_2_cuda\n',
        release.api: API,
        f"{release.sources}/flash.h": FLASH_H,
        "csrc/cutlass/include/cutlass/numeric_types.h": "#pragma once\nnamespace cutlass { struct half_t {}; struct bfloat16_t {}; }\n",
    }
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
        )
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
    return folder / "bin" / "python"
