from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner import codec, download
from provisioner.building.toolchain import WHEEL_PARTS
from provisioner.environments.bundle_opening import opened
from provisioner.environments.bundling import make_bundle, order
from provisioner.environments.create import check_machine
from provisioner.environments.toolkit import FROM_INDEX, check_toolkit, toolkit_from_lock
from provisioner.errors import BuildFailed
from provisioner.indexes import IndexSettings
from provisioner.locking.conda_lock_file import write_lock
from provisioner.locking.values import SOURCE, TOOLCHAIN, Lock, LockedPackage
from provisioner.planning.values import FlashAttn, Plan, Route
from tests.distributions import make_wheel
from tests.planning.machines import machine

pytestmark = pytest.mark.integration

NVCC = "#!/bin/sh\necho 'nvcc: NVIDIA (R) Cuda compiler driver'\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"


def compiler_wheels(folder: Path) -> list[Path]:
    """Wheels of the names and places of CUDA 13's, with programs that are scripts."""
    files = {
        "nvidia-cuda-nvcc": {"nvidia/cu13/bin/nvcc": NVCC},
        "nvidia-nvvm": {"nvidia/cu13/nvvm/bin/cicc": "#!/bin/sh\n"},
        "nvidia-cuda-crt": {"nvidia/cu13/include/crt/host_config.h": ""},
        "nvidia-cuda-cccl": {"nvidia/cu13/include/cccl/version.h": ""},
        "nvidia-cuda-runtime": {"nvidia/cu13/include/cuda_runtime.h": "", "nvidia/cu13/lib/libcudart.so.13": ""},
    }
    assert set(files) == set(WHEEL_PARTS)
    return [make_wheel(folder, name, "13.0.88", files=dict(contents)) for name, contents in files.items()]


def test_a_build_finds_its_sources_and_compiler_in_the_bundle(tmp_path: Path) -> None:
    served = tmp_path / "served"
    sdist = served / "flash_attn-2.8.3.post2.tar.gz"
    wheels = compiler_wheels(served)
    sdist.write_bytes(b"sources")
    packages = [
        LockedPackage(
            re.sub("_", "-", file.name.split("-")[0]), "13.0.88", "pip", "linux-64", file.as_uri(), download.file_sha256(file),
            category=SOURCE if file == sdist else TOOLCHAIN,
        )
        for file in (*wheels, sdist)
    ]  # fmt: skip
    chosen = FlashAttn("2.8.3.post2", archs=("sm_90",))
    plan = Plan("ampere", Route.SOURCE, "3.12", "2.13.0", "13.0", chosen, toolkit="13.0", backend="venv")
    metadata = {"provision-plan": json.dumps(codec.to_builtins(plan))}
    write_lock(Lock("linux-64", tuple(packages), (), metadata), tmp_path / "conda-lock.yml")
    manifest = make_bundle(order(tmp_path / "conda-lock.yml", tmp_path / "bundle.tar"))
    assert not any("toolkit" in sentence for sentence in manifest.needs)
    shutil.rmtree(served)
    with opened(tmp_path / "bundle.tar") as bundle:
        lock = bundle.locked.lock
        archive = lock.find("flash-attn")
        assert archive is not None
        assert download.fetch(archive.url, tmp_path / "sdist", sha256=archive.sha256).read_bytes() == b"sources"
        root = toolkit_from_lock(lock, IndexSettings())
        assert "13.0.88" in subprocess.run([root / "bin/nvcc", "--version"], capture_output=True, text=True, timeout=30).stdout
        assert (root / "lib64/libcudart.so").exists()


@pytest.fixture
def plan() -> Plan:
    chosen = FlashAttn("2.8.3.post2", archs=("sm_90",))
    return Plan("ampere", Route.SOURCE, "3.12", "2.13.0", "13.0", chosen, toolkit="13.0", backend="venv")


def make_toolkit(root: Path, version: str, *, headers: bool = True) -> str:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "nvcc").write_text(NVCC.replace("13.0.88", version))
    (root / "bin" / "nvcc").chmod(0o755)
    if headers:
        (root / "include").mkdir()
        (root / "include" / "cuda_runtime.h").touch()
    return str(root)


def test_a_named_toolkit_is_looked_at_before_anything_is_fetched(tmp_path: Path, plan: Plan) -> None:
    box = machine("RTX 4090=8.9", "580.65.06", pythons="3.12", gcc="12.2")
    check_machine(plan, box, toolkit=make_toolkit(tmp_path / "13", "13.1.80"))
    refused = {
        "/nope": "no-compiler",
        make_toolkit(tmp_path / "bare", "13.0.88", headers=False): "no-compiler",
        make_toolkit(tmp_path / "12", "12.9.86"): "cuda-mismatch",
    }
    for backend in ("venv", "conda"):
        for root, code in refused.items():
            with pytest.raises(BuildFailed) as caught:
                check_machine(replace(plan, backend=backend), box, toolkit=root)
            assert (caught.value.code, root in caught.value.what) == (code, True)
    check_toolkit(plan, FROM_INDEX)
