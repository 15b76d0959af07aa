from __future__ import annotations

import sys
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.machine.facts import Machine
from provisioner.machine.interpreter import existing_python, named_python, software_of
from provisioner.machine.system import LiveSystem
from provisioner.machine.toolkits import facts as toolkit_facts

OLD_ABI = b"\x7fELF\x00_ZN3c105ErrorC2ENS_14SourceLocationESs\x00"
NEW_ABI = b"\x7fELF\x00_ZN3c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\x00"


def environment(root: Path) -> tuple[Path, Path]:
    """Make a virtual environment by hand; return its interpreter and its site directory."""
    python = root / "bin" / "python"
    site = root / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.12.3\n")
    return python, site


def install(site: Path, name: str, version: str) -> None:
    metadata = site / f"{name}-{version.partition('+')[0]}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")


def torch(site: Path, version: str, cuda: str | None, library: bytes = b"") -> None:
    install(site, "torch", version)
    (site / "torch" / "lib").mkdir(parents=True)
    (site / "torch" / "version.py").write_text(f"__version__ = {version!r}\ndebug = False\ncuda: str | None = {cuda!r}\n")
    (site / "torch" / "lib" / "libc10.so").write_bytes(library)


def test_versions_are_read_without_importing_anything(tmp_path: Path) -> None:
    python, site = environment(tmp_path)
    torch(site, "2.5.1+cu124", "12.4", OLD_ABI)
    (site / "torch" / "__init__.py").write_text("raise SystemExit('imported')\n")
    for name, version in (
        ("flash_attn", "2.7.4.post1"),
        ("flash_attn_4", "4.0.0b36"),
        ("unsloth", "2026.10.9"),
        ("unsloth_zoo", "2026.10.1"),
    ):
        install(site, name, version)
    software = software_of(LiveSystem(), str(python))
    assert (software.python, software.torch, software.torch_cuda) == ("3.12.3", "2.5.1+cu124", "12.4")
    assert (software.flash_attn, software.unsloth, software.xformers) == ("2.7.4.post1", "2026.10.9", None)


@pytest.mark.parametrize(
    ("version", "library", "abi"),
    [
        ("2.5.1+cu124", OLD_ABI, False),
        ("2.5.1+cu124", NEW_ABI, True),  # conda-forge's and vendors' builds: the file outweighs the rule
        ("2.5.1+cu124", b"", False),
        ("2.6.0+cu126", b"", True),
        ("2.6.0+cu124", b"", False),
        ("2.6.0", b"", None),
        ("2.7.1+cu128", b"", True),
        ("2.10.0", b"", True),
        ("2.6.0a0+ecf3bae40a.nv25.01", b"", None),
    ],
)
def test_the_abi_is_that_of_the_library_else_that_of_the_release_else_unknown(
    tmp_path: Path, version: str, library: bytes, abi: bool | None
) -> None:
    python, site = environment(tmp_path)
    torch(site, version, "12.4", library)
    expected = abi if library or LiveSystem().kernel().machine == "x86_64" else None
    assert software_of(LiveSystem(), str(python)).torch_cxx11_abi is expected


def test_a_cpu_torch_has_no_cuda(tmp_path: Path) -> None:
    python, site = environment(tmp_path)
    torch(site, "2.13.0+cpu", None)
    assert software_of(LiveSystem(), str(python)).torch_cuda is None


def test_what_pip_leaves_half_removed_is_not_installed(tmp_path: Path) -> None:
    python, site = environment(tmp_path)
    install(site, "~lash_attn", "2.8.3")
    (site / "flash_attn").mkdir()
    assert software_of(LiveSystem(), str(python)).flash_attn is None


def test_an_interpreter_that_is_not_there_has_no_software(tmp_path: Path) -> None:
    software = software_of(LiveSystem(), str(tmp_path / "bin" / "python"))
    assert (software.torch, software.flash_attn) == (None, None)


def test_this_interpreter_is_read_as_it_calls_itself() -> None:
    software = software_of(LiveSystem(), sys.executable)
    assert software.python is not None
    assert sys.version.startswith(software.python)


def test_a_toolkit_is_named_by_its_real_root_behind_links_and_wrapper_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "cuda-12.8"
    for directory in (real / "bin", tmp_path / "bin", tmp_path / "usr-bin"):
        directory.mkdir(parents=True)
    (real / "bin" / "nvcc").touch()
    (real / "version.json").write_text('{"cuda_nvcc": {"name": "CUDA NVCC", "version": "12.8.93"}}')
    (tmp_path / "cuda").symlink_to(real)
    (tmp_path / "bin" / "nvcc").write_text(f'#!/bin/sh\nexec {tmp_path}/cuda/bin/nvcc "$@"\n')
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    machine = toolkit_facts(LiveSystem(), Machine())
    assert (machine.toolkits[0].root, machine.toolkits[0].version) == (str(real), "12.8.93")
    assert machine.software.nvcc == "12.8.93"
    assert sum(toolkit.root == str(real) for toolkit in machine.toolkits) == 1


def test_an_environments_folder_its_program_and_a_command_are_the_same_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, _ = environment(tmp_path / "env")
    monkeypatch.setenv("PATH", str(python.parent))
    monkeypatch.chdir(tmp_path)
    assert {named_python(named) for named in (python, tmp_path / "env", Path("python"), Path("env"))} == {python}


def test_a_pyenv_shim_is_followed_and_a_missing_program_is_left_as_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "pyenv" / "shims" / "python3.12"
    real = tmp_path / "pyenv" / "versions" / "3.12.3" / "bin" / "python"
    for path in (shim, real):
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PYENV_VERSION", "3.12.3")
    assert named_python(Path("python3.12")) == real
    assert named_python(tmp_path / "gone" / "python") == tmp_path / "gone" / "python"
    with pytest.raises(UsageError, match="no interpreter at"):
        existing_python(tmp_path / "gone" / "python")
