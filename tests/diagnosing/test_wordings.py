"""What torch, pip, compilers and drivers say in their versions and languages, and the code under which it is found."""

from __future__ import annotations

import pytest

from provisioner.diagnosing.reports import diagnose_report

WORDINGS = [
    (
        "undefined-symbol-abi-mismatch",
        "ImportError: libtorch_cuda_cpp.so: cannot open shared object file: No such file or directory",
    ),
    ("nvcc-too-old", "ptxas /tmp/tmpqgu1f9dk.ptx, line 5; fatal   : Unsupported .version 8.6; current version is '8.5'"),
    ("rocm-not-cuda", "[pip3] amd-torch-device-gfx90a==2.12.0+rocm7.14.0"),
    ("rocm-not-cuda", "x_hip.o -fPIC -D__HIP_PLATFORM_HCC__=1 -DUSE_ROCM=1 --offload-arch=gfx90a"),
    (
        "missing-build-dep",
        "/usr/include/python3.12/pyconfig.h:3:12: fatal error: x86_64-linux-gnu/python3.12/pyconfig.h: No such file or directory",
    ),
    (
        "cuda-home-missing",
        "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)",
    ),
    ("cuda-home-missing", "Command 'nvcc' not found, but can be installed with:\nsudo apt install nvidia-cuda-toolkit"),
    ("cuda-home-missing", "zsh: command not found: nvcc"),
    ("nvcc-arch-unknown", "clang: error: unsupported CUDA gpu architecture: sm_120"),
    ("host-compiler-too-old", "#error You're trying to build PyTorch with a too old version of GCC. We need GCC 9 or later."),
    ("msvc-env-incomplete", "nvcc fatal   : Host compiler targets unsupported OS."),
    ("msvc-env-incomplete", "fatal error C1083: 无法打开包括文件: “corecrt.h”: No such file or directory"),
    ("msvc-env-incomplete", "error: command 'cl.exe' failed: None"),
    ("driver-too-old", "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    ("driver-not-running", "Unable to determine the device handle for GPU 0000:0A:00.0: Unknown Error"),
    ("driver-not-running", "modprobe: FATAL: Module nvidia not found in directory /lib/modules/6.8.0-57-generic"),
    ("driver-not-running", "Failed to initialize NVML: Insufficient Permissions"),
    ("build-oom-killed", "subprocess.CalledProcessError: Command '['ninja', '-v']' died with <Signals.SIGKILL: 9>."),
    ("build-oom-killed", "error: command '/usr/local/cuda/bin/nvcc' failed with exit code -9"),
    ("build-oom-killed", "FAILED: [code=137] flash_fwd_hdim64_fp16_sm80.cuda.o"),
    (
        "nvcc-torch-cuda-mismatch",
        "RuntimeError: ('The detected CUDA version (%s) mismatches the version that was used to compilePyTorch (%s).', '12.8', '13.0')",
    ),
    (
        "nvcc-torch-cuda-mismatch",
        "Installed CUDA version 12.0 does not match the version torch was compiled with 11.7, unable to compile",
    ),
    ("driver-lib-mismatch", "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown"),
    (
        "fa3-on-blackwell",
        "GPU: NVIDIA GeForce RTX 5090\nCUDA error (C:/a/xformers/flash-attention/hopper\\flash_fwd_launch_template.h:188): invalid argument",
    ),
    ("no-gpu", "NotImplementedError: Unsloth cannot find any torch accelerator? You need a GPU."),
    ("no-gpu", "NotImplementedError: Unsloth: No NVIDIA GPU found? Unsloth currently only supports GPUs!"),
    ("driver-not-running", 'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].'),
    ("driver-not-running", "pynvml.nvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found"),
    (
        "driver-too-old",
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version",
    ),
    (
        "cuda-unavailable",
        "UserWarning: CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable CUDA_VISIBLE_DEVICES after program start.",
    ),
    (
        "driver-lib-mismatch",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination",
    ),
    ("cuda-unavailable", "RuntimeError: CUDA error: no CUDA-capable device is detected"),
    ("missing-build-dep", "error: command 'gcc' failed: No such file or directory"),
    ("missing-build-dep", "RuntimeError: Failed to find C compiler. Please specify via CC environment variable."),
    (
        "missing-build-dep",
        "hint: This error likely indicates that `flash-attn` depends on `psutil`, but doesn't declare it as a build\ndependency.",
    ),
    ("msvc-env-incomplete", "subprocess.CalledProcessError: Command '['where', 'cl']' returned non-zero exit status 1."),
    ("cuda-home-missing", "'nvcc' is not recognized as an internal or external command,"),
    ("cuda-home-missing", "CMake Error: No CMAKE_CUDA_COMPILER could be found."),
    ("cuda-home-missing", "RuntimeError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root."),
    ("build-oom-killed", "g++: internal compiler error: Killed (program cc1plus)"),
    ("build-oom-killed", "/usr/bin/bash: 第 1 行:  2543 已杀死               python setup.py install"),
    ("build-oom-killed", "ninja: fatal: posix_spawn: Cannot allocate memory"),
    ("cuda-headers-incomplete", "sh: 1: cicc: not found"),
    ("cuda-headers-incomplete", "fatal error: nvToolsExt.h: No such file or directory"),
    ("cuda-headers-incomplete", "/usr/bin/ld: cannot find -lcudart: No such file or directory"),
    (
        "host-compiler-too-new",
        '/usr/include/x86_64-linux-gnu/bits/mathcalls.h(79): error: exception specification is incompatible with that of previous function "cospi"',
    ),
    (
        "host-compiler-too-new",
        "fatal error C1189: #error:  -- unsupported Microsoft Visual Studio version! Only the versions between 2017 and 2022 (inclusive) are supported!",
    ),
    (
        "host-compiler-too-new",
        "RuntimeError: The current installed version of /usr/bin/g++ (14.2.0) is greater than the maximum required version by CUDA 12.1. Please make sure to use an adequate version of g++ (>=6.0.0, <13.0).",
    ),
    (
        "host-compiler-too-old",
        "RuntimeError: The current installed version of c++ (4.8.5) is less than the minimum required version by CUDA 11.8 (6.0.0).",
    ),
    ("cxx-standard-too-old", "#error libcu++ requires at least C++ 17. Define CCCL_IGNORE_DEPRECATED_CPP_DIALECT"),
    ("glibc-too-old", "OSError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_ABI_DT_RELR' not found (required by x.so)"),
    ("glibc-too-old", "ImportError: /usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found"),
    (
        "network-blocked",
        "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files', port=443): Read timed out.",
    ),
    (
        "network-blocked",
        "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'ConnectTimeoutError(<x>, 'Connection to github.com timed out. (connect timeout=15)')'",
    ),
    ("network-blocked", "urllib.error.URLError: <urlopen error [WinError 10060] A connection attempt failed>"),
    ("network-blocked", "urllib.error.URLError: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>"),
    (
        "network-blocked",
        "error: Failed to fetch: `https://index.example/simple/torch/`\n  Caused by: error sending request for url (https://index.example/simple/torch/)",
    ),
    (
        "network-blocked",
        "fatal: unable to access 'https://github.com/Dao-AILab/flash-attention.git/': Failed to connect to github.com port 443: Timed out",
    ),
    ("network-blocked", "urllib.error.HTTPError: HTTP Error 403: Forbidden"),
    (
        "cross-device-link",
        "OSError: [WinError 17] The system cannot move the file to a different disk drive: 'C:\\\\t.whl' -> 'D:\\\\c.whl'",
    ),
    (
        "wheel-tag-mismatch",
        "error: Distribution `flash-attn==2.8.3 @ registry` can't be installed because it doesn't have a source distribution or wheel for the current platform",
    ),
    (
        "wheel-tag-mismatch",
        "hint: You're using CPython 3.14 (`cp314`), but `xformers` (v0.0.32) only has wheels with the following Python ABI tag: `abi3`",
    ),
    ("dll-load-failed", "ImportError: DLL load failed: The specified module could not be found."),
    (
        "undefined-symbol-abi-mismatch",
        "ImportError: /opt/e/lib/python3.11/site-packages/vllm/_C.abi3.so: undefined symbol: cudaGetDriverEntryPointByVersion",
    ),
    (
        "undefined-symbol-abi-mismatch",
        "ImportError: /e/lib/python3.10/site-packages/xformers/_C.so: undefined symbol: _ZNK3c1010TensorImpl36is_contiguous_nondefault_policy_implENS_12MemoryFormatE",
    ),
    ("torch-import-broken", "ImportError: libcusparseLt.so.0: cannot open shared object file: No such file or directory"),
    (
        "torch-import-broken",
        "OSError: /v/lib/python3.10/site-packages/torch/lib/../../nvidia/cublas/lib/libcublas.so.12: undefined symbol: cublasLtGetEnvironmentMode, version libcublasLt.so.12",
    ),
    ("torch-import-broken", "ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block"),
    (
        "torch-import-broken",
        'OSError: [WinError 126] The specified module could not be found. Error loading "C:\\\\v\\\\lib\\\\site-packages\\\\torch\\\\lib\\\\fbgemm.dll" or one of its dependencies.',
    ),
    ("libcudart-missing", "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory"),
    (
        "libcudart-missing",
        "RuntimeError: \n        CUDA Setup failed despite GPU being available. Please run the following command to get more information:",
    ),
    ("arch-unsupported", "    PyTorch no longer supports this GPU because it is too old."),
    ("arch-unsupported", "ptxas /tmp/x.ptx, line 34; error   : Feature '.bf16' requires .target sm_80 or higher"),
    ("nvcc-arch-unknown", "ptxas fatal   : Value 'sm_120' is not defined for option 'gpu-name'"),
    ("nvcc-arch-unknown", "ValueError: Unknown CUDA arch (10.0) or GPU not supported"),
    ("torch-lacks-gpu-arch", "'sm_120' is not a recognized processor for this target (ignoring processor)"),
    ("windows-long-path", "FileNotFoundError: [WinError 206] The filename or extension is too long"),
    ("disk-or-tmp-full", "OSError: [WinError 112] There is not enough space on the disk"),
    ("ptxas-crash", "nvcc error   : 'ptxas' died due to signal 11 (Invalid memory reference)"),
    ("musl-unsupported", "Error relocating /usr/lib/libc10.so: __memcpy_chk: symbol not found"),
    (
        "fa3-on-blackwell",
        "CUDA error (/home/x/flash-attention/hopper/flash_fwd_launch_template.h:180): no kernel image is available for execution on the device",
    ),
    ("nvcc-too-old", "RuntimeError: FlashAttention-3 is only supported on CUDA 12.3 and above"),
    ("nvcc-too-old", "nvcc fatal   : Value 'c++17' is not defined for option 'std'"),
    ("windows-no-wheel", "hint: The wheel is compatible with Linux (`linux_x86_64`), but you're on Windows (`win_amd64`)"),
    ("none", "WARNING: Retrying is not needed. pip 24.0 from /usr/lib/python3/dist-packages/pip (python 3.10)"),
    ("none", "Cannot use FlashAttention-2 backend for Volta and Turing GPUs.\nUsing XFormers backend."),
]


@pytest.mark.parametrize(("code", "text"), WORDINGS, ids=[f"{number}-{code}" for number, (code, _) in enumerate(WORDINGS)])
def test_a_message_in_each_of_its_wordings_is_the_cause(code: str, text: str) -> None:
    _, findings = diagnose_report(text)
    assert next((finding.code for finding in findings if finding.primary), "none") == code


@pytest.mark.parametrize(
    "text",
    [
        "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError'\n  Downloading flash_attn.tar.gz (2.5 MB)",
        "CUDA SETUP: CUDA runtime path found: /opt/env/lib/libcudart.so\nCUDA SETUP: CUDA detection failed! Possible reasons:",
        "GPU 0: NVIDIA H100 80GB HBM3\nCUDA error (/src/hopper/flash_fwd_launch_template.h:188): invalid argument",
    ],
    ids=["a retry that succeeded", "a runtime that was found", "hopper's kernels on Hopper"],
)
def test_a_message_that_the_report_contradicts_is_no_cause(text: str) -> None:
    assert not [finding for finding in diagnose_report(text)[1] if finding.primary]
