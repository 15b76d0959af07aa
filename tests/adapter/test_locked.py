"""The adapter in a lock, and out of it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner import download
from provisioner.adapter.kernels import AdapterVersion
from provisioner.adapter.locked import ADAPTER, adapter_record, check_locked
from provisioner.environments.flash_attn import obtain_wheel
from provisioner.environments.toolkit import requirements
from provisioner.errors import IntegrityError
from provisioner.indexes import IndexSettings
from provisioner.locking import lock as locking
from provisioner.locking.pypi_part import Target
from provisioner.locking.values import Lock
from provisioner.machine.facts import Machine
from provisioner.planning.values import FlashAttn, Plan, Route

ATEN = AdapterVersion.parse("2.8.3+aten")
PLAN = Plan("volta", Route.SHIM, "3.12", "2.10.0", "12.8", FlashAttn("2.8.3+aten"), attention="adapter")


def locked(text: str) -> Lock:
    return Lock("linux-64", (), metadata={ADAPTER: text, "provision-version": "0.0.1"})


def test_the_lock_holds_the_hash_of_the_wheel_that_is_made_from_it() -> None:
    lock = locked(adapter_record(ATEN))
    wheel = obtain_wheel(Path("python"), PLAN, Machine(), lock, IndexSettings("none", None))
    assert wheel is not None
    assert json.loads(lock.metadata[ADAPTER])["wheel_sha256"] == download.file_sha256(wheel)


def test_the_same_version_is_locked_the_same() -> None:
    assert adapter_record(ATEN) == adapter_record(ATEN)


def test_an_adapter_of_other_sources_is_not_put_in_its_place() -> None:
    other = json.loads(adapter_record(ATEN)) | {"sources_sha256": "0" * 64}
    with pytest.raises(IntegrityError, match="not the one"):
        check_locked(locked(json.dumps(other, separators=(",", ":"), sort_keys=True)), ATEN)


def test_a_lock_that_names_no_adapter_is_nothing_to_compare_with() -> None:
    check_locked(Lock("linux-64", ()), ATEN)


def test_pytorchs_kernels_need_no_file_in_the_lock() -> None:
    assert locking.lock_flash_attn(PLAN, Target("3.12", "x86_64", "2.35"), IndexSettings("none", None)) == ()


def test_compiled_kernels_have_no_wheel_hash_before_they_are_compiled() -> None:
    record = json.loads(adapter_record(AdapterVersion.parse("2.8.3+turing109")))
    assert set(record) == {"version", "sources_sha256"}


def test_the_lock_of_another_kernel_set_is_refused() -> None:
    plan = replace(PLAN, flash_attn=FlashAttn("2.8.1+aten"))
    with pytest.raises(IntegrityError):
        obtain_wheel(Path("python"), plan, Machine(), locked(adapter_record(ATEN)), IndexSettings("none", None))


def test_kernels_to_compile_need_a_compiler_and_pytorchs_do_not() -> None:
    turing = replace(
        PLAN, cuda="13.0", backend="venv", flash_attn=FlashAttn("2.8.3+turing109", sha256="a" * 64, archs=("sm_75",))
    )
    assert turing.compiles
    assert any(name.startswith("nvidia-cuda-nvcc") for name in requirements(turing, Machine()))
    assert requirements(replace(turing, flash_attn=FlashAttn("2.8.3+aten")), Machine()) == ()
