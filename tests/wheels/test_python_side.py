from __future__ import annotations

from provisioner.wheels.python_side import interface_files, missing_module
from tests.wheels.conftest import INTERFACE

FILES = ["flash_attn/__init__.py", "flash_attn/flash_attn_interface.py", "flash_attn/flash_blocksparse_attn_interface.py"]


def test_only_the_files_that_import_kernels_are_looked_at() -> None:
    assert interface_files([*FILES, "tests/old/flash_attn_interface.py", "flash_attn_interface.py"]) == (
        "flash_attn/flash_attn_interface.py",
        "flash_attn_interface.py",
    )


def test_a_kernel_less_flash_attn_misses_the_module_it_imports() -> None:
    assert missing_module("flash-attn", FILES, {FILES[1]: INTERFACE}) == "flash_attn_2_cuda"
    whole = [*FILES, "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"]
    assert missing_module("flash-attn", whole, {FILES[1]: INTERFACE}) is None


def test_version_1_and_version_3_are_known_too() -> None:
    assert missing_module("flash-attn", FILES, {FILES[1]: "import flash_attn_cuda\n"}) == "flash_attn_cuda"
    three = {"flash_attn_interface.py": "import flash_attn_3._C # Registers operators\n"}
    assert missing_module("flash-attn-3", ["flash_attn_interface.py"], three) == "flash_attn_3._C"
    assert missing_module("flash-attn-3", ["flash_attn_interface.py", "flash_attn_3/_C.abi3.so"], three) is None


def test_an_empty_placeholder_is_no_flash_attn() -> None:
    assert missing_module("flash-attn-3", ["flash_attn_3-0.0.0.dist-info/METADATA"], {}) == "flash_attn_3"
    assert missing_module("flash-attn-3", ["flash_attn_interface.py"], {"flash_attn_interface.py": ""}) == "flash_attn_3"
    assert missing_module("other", ["other-0.0.0.dist-info/METADATA"], {}) is None


def test_a_pure_python_flash_attn_over_torchs_kernels_misses_nothing() -> None:
    assert missing_module("flash-attn", FILES, {FILES[1]: "import torch\nfrom flash_attn import seam\n"}) is None


def test_the_flash_attention_3_sources_in_a_version_2_wheel_are_not_its_kernels() -> None:
    names = [
        "flash_attn/flash_attn_interface.py",
        "hopper/flash_attn_interface.py",
        "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so",
    ]
    assert interface_files(names) == ("flash_attn/flash_attn_interface.py",)
