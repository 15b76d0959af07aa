from __future__ import annotations

import pytest

from provisioner.capability import ComputeCapability
from provisioner.knowledge import packages


@pytest.mark.parametrize(
    ("torch", "xformers"),
    [
        ("2.4.0", "0.0.27.post2"),
        ("2.5.1", "0.0.29.post1"),
        ("2.6.0", "0.0.29.post3"),
        ("2.7.1", "0.0.31.post1"),
        ("2.8.0", "0.0.32.post2"),
        ("2.9.1", "0.0.33.post2"),
        ("2.10.0", "0.0.35"),
        ("2.14.1+cu130", "0.0.35"),
    ],
)
def test_each_torch_has_the_xformers_that_the_resolver_takes(torch: str, xformers: str) -> None:
    found = packages.xformers_for(torch)
    assert found is not None
    assert found.xformers == xformers


@pytest.mark.parametrize(
    ("xformers", "flash_attn", "imports"),
    [
        ("0.0.32.post2", "2.8.2", True),
        ("0.0.32.post2", "2.8.3", False),  # unsloth#2763 and its kind
        ("0.0.32.post2", "2.7.4.post1", True),
        ("0.0.33.post2", "2.8.3", True),
        ("0.0.35", "2.8.3.post2", True),
        ("0.0.35", "2.7.0.post2", False),
        ("0.0.31.post1", "2.8.0.post2", True),  # compares three numbers, so a post release passes
        ("0.0.31.post1", "2.8.1", False),
        ("0.0.30", "2.7.4.post1", True),
        ("0.0.29.post3", "2.7.4.post1", False),
        ("0.0.28.post3", "2.6.3", True),
        ("0.0.28.post3", "2.7.0.post2", False),
        ("0.0.35", "1.0.9", False),
    ],
)
def test_xformers_imports_only_beside_the_flash_attn_that_it_takes(xformers: str, flash_attn: str, imports: bool) -> None:
    found = packages.xformers_release(xformers)
    assert found is not None
    assert found.accepts_flash_attn(flash_attn) is imports


@pytest.mark.parametrize(
    ("version", "cuda", "capability", "machine", "runs"),
    [
        ("0.50.2", "12.8", "7.0", "x86_64", True),
        ("0.46.1", "12.8", "7.0", "x86_64", False),
        ("0.50.2", "13.0", "7.0", "x86_64", False),
        ("0.50.2", "13.0", "7.5", "x86_64", True),
        ("0.50.2", "12.6", "12.0", "x86_64", False),
        ("0.50.2", "12.6", "8.7", "aarch64", False),  # bitsandbytes#1929: binaries for discrete GPUs do not run on Orin
        ("0.50.2", "12.6", "8.6", "x86_64", True),
        ("0.41.0", "11.8", "8.0", "x86_64", None),
    ],
)
def test_bitsandbytes_has_kernels_by_release_cuda_and_gpu(
    version: str, cuda: str, capability: str, machine: str, runs: bool | None
) -> None:
    found = packages.bitsandbytes_runs_on(version, cuda, ComputeCapability.parse(capability), machine=machine)
    assert found is runs


def test_unsloth_caps_torch_and_python() -> None:
    newest = packages.unsloth()[0]
    assert newest.accepts("torch", "2.14.1+cu130")
    assert not newest.accepts("torch", "2.15.0")
    assert not newest.accepts("transformers", "5.24.0")
    assert not newest.accepts("bitsandbytes", "0.48.0")
    assert newest.accepts_python("3.14")
    assert not newest.accepts_python("3.15")
    assert not newest.accepts_python("3.9")  # what it requires starts at 3.10


@pytest.mark.parametrize(
    ("torch", "python", "unsloth"), [("2.9.1", "3.12", "2026.10.9"), ("2.15.0", "3.12", None), ("2.3.1", "3.11", None)]
)
def test_the_newest_unsloth_for_a_torch_and_python_is_found(torch: str, python: str, unsloth: str | None) -> None:
    found = packages.unsloth_for(torch, python)
    assert (found.unsloth if found else None) == unsloth


@pytest.mark.parametrize(
    ("triton", "capability", "assembles"),
    [
        ("3.5.1", "9.0", True),
        ("3.5.1", "10.0", True),
        ("3.5.1", "10.3", False),
        ("3.5.1", "12.1", False),
        ("3.6.0", "12.1", True),
        ("3.6.0", "11.0", False),
        ("3.7.1", "11.0", True),
        ("3.8.0", "7.0", True),  # its assembler for older GPUs is of CUDA 12.9, the last with sm_70
        ("3.3.1", "12.0", True),
        ("3.2.0", "12.0", False),
        ("3.9.0", "9.0", None),
    ],
)
def test_tritons_assembler_knows_gpus_from_its_cuda_on(triton: str, capability: str, assembles: bool | None) -> None:
    """The assemblers of the wheels, run for each name on 2026-11-27: 3.5.1's answers `Value 'sm_121' is not defined`."""
    found = packages.triton_release(triton)
    assert found is not None
    assert found.assembles_for(ComputeCapability.parse(capability)) is assembles
