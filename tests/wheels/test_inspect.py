from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.codec import from_json, to_json
from provisioner.errors import SourceUnreachable, UsageError
from provisioner.wheels.inspect import inspect
from provisioner.wheels.inspection import Inspection, Subject, sort_archs
from provisioner.wheels.linkage import Abi
from provisioner.wheels.malformed import MalformedBinary
from provisioner.wheels.verdict import Target, reject_reasons
from tests.servers import serve
from tests.wheels.conftest import ARCHS, INTERFACE, STUB_SOURCE, Environment, container, entry, make_wheel

pytestmark = pytest.mark.integration

NAME = "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
MODULE = "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"


def wheel_of(folder: Path, *libraries: Path, name: str = NAME) -> Path:
    members: dict[str, bytes | str | Path] = {"flash_attn/flash_attn_interface.py": INTERFACE}
    for index, library in enumerate(libraries):
        members[MODULE if index == 0 else f"flash_attn/{library.name}"] = library
    return make_wheel(folder / name, members)


def test_a_wheel_holds_what_was_compiled_into_it(extension: Path, tmp_path: Path) -> None:
    found = inspect(wheel_of(tmp_path, extension))
    assert found.archs == sort_archs(ARCHS)
    assert (found.kind, found.distribution, found.torch) == (Subject.WHEEL, "flash-attn", "2.9")
    assert found.stubs == ()
    assert found.kernels is True
    assert found.complete
    assert found.cudart is not None
    assert from_json(to_json(found), Inspection) == found


def test_an_extension_file_and_a_file_url_are_read_alike(extension: Path) -> None:
    found = inspect(extension)
    assert found.kind is Subject.EXTENSION
    assert inspect(f"file://{extension}").archs == found.archs


def test_a_stub_build_is_recognised_and_refused(build_cuda: Callable[..., Path], tmp_path: Path) -> None:
    found = inspect(wheel_of(tmp_path, build_cuda("75", "ptx75", "80", source=STUB_SOURCE)))
    assert found.stubs == ("sm_75", "compute_75")
    assert found.working_archs == ("sm_80",)
    assert [one.code for one in reject_reasons(found, Target(gpus=("7.5",)))] == ["stub-kernels"]
    assert reject_reasons(found, Target(gpus=("8.6",))) == ()


def test_a_kernel_less_flash_attn_is_recognised_and_refused(tmp_path: Path) -> None:
    found = inspect(make_wheel(tmp_path / "flash_attn-2.8.3-py3-none-any.whl", {"flash_attn/flash_attn_interface.py": INTERFACE}))
    assert (found.kernels, found.missing_module) == (False, "flash_attn_2_cuda")
    assert [one.code for one in reject_reasons(found, Target())] == ["no-kernels"]


def test_a_wheel_is_linked_against_a_torch_and_with_the_libraries_it_brings(
    build_cxx: Callable[..., Path], planted: Path, environment: Environment, tmp_path: Path
) -> None:
    own = build_cxx("int helper() { return 1; }", "-Wl,-soname,libhelper.so.1", name="libhelper.so.1")
    user = build_cxx("int helper(); int use() { return helper(); }", str(own), name="user.so")
    found = inspect(wheel_of(tmp_path, planted, own, user), against=environment.lib_dir)
    assert found.undefined == ("_ZN3c107renamedEi",)
    assert found.missing_libraries == ()
    assert found.abi is Abi.CXX11


def test_an_environments_flash_attn_is_linked_against_its_own_torch(planted: Path, environment: Environment) -> None:
    files: dict[str, bytes | str | Path] = {"flash_attn/flash_attn_interface.py": INTERFACE, MODULE: planted}
    environment.install("flash-attn", "2.8.3+cu12torch2.8cxx11abiTRUE", files)
    found = inspect(environment.prefix)
    assert (found.kind, found.version, found.torch) == (Subject.ENVIRONMENT, "2.8.3+cu12torch2.8cxx11abiTRUE", "2.8")
    assert found.undefined == ("_ZN3c107renamedEi",)
    assert found.against == str(environment.lib_dir)


def test_an_environment_whose_compiled_module_was_deleted_has_no_kernels(environment: Environment, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    other = Environment(tmp_path, site)
    other.install("flash-attn", "2.8.3", {"flash_attn/flash_attn_interface.py": INTERFACE, MODULE: b"\x7fELF"})
    (site / MODULE).unlink()
    assert inspect(tmp_path).missing_module == "flash_attn_2_cuda"


def test_an_extension_of_250_mb_costs_at_most_50_ms_of_our_own_time(build_cxx: Callable[..., Path], tmp_path: Path) -> None:
    """Laid out like flash-attn 2: 64 translation units, each with a 2 MB binary for two architectures."""
    unit = container(entry(2, 80, 0x11, random.Random(4).randbytes(2**21)), entry(2, 90, 0x11, bytes(2**21)))
    with (tmp_path / "device").open("wb") as file:
        for _ in range(64):
            file.write(unit)
    section = f'asm(".section .nv_fatbin,\\"a\\"\\n.balign 8\\n.incbin \\"{tmp_path}/device\\"\\n.text\\n");'
    big = build_cxx(f"{section} void f() {{ throw 1; }}")
    assert big.stat().st_size > 250 * 2**20
    spent = []
    for _ in range(5):
        started = time.process_time()
        found = inspect(big)
        spent.append(time.process_time() - started)
    assert found.extensions[0].images == {"sm_80": 64, "sm_90": 64}
    assert min(spent) <= 0.05


def test_what_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        inspect(tmp_path / "gone.whl")


def test_an_html_page_saved_as_a_wheel_is_refused(tmp_path: Path) -> None:
    page = tmp_path / NAME
    page.write_text("<html>404</html>")
    with pytest.raises(MalformedBinary):
        inspect(page)


def large_wheel(folder: Path, extension: Path) -> Path:
    """Return a wheel of 24 MB whose one extension is a real one followed by data that does not compress."""
    big = folder / "big.so"
    shutil.copyfile(extension, big)
    with big.open("ab") as file:
        file.write(random.Random(3).randbytes(24 * 2**20))
    return wheel_of(folder, big)


def test_a_large_remote_wheel_is_judged_from_a_twentieth_of_it(extension: Path, tmp_path: Path) -> None:
    large = large_wheel(tmp_path, extension)
    whole = inspect(large)
    with serve(large.parent) as server:
        found = inspect(f"{server.url}/{large.name}")
        moved = server.sent
    assert found.bytes_read == moved
    assert found.bytes_total == large.stat().st_size
    assert moved <= 0.05 * large.stat().st_size
    assert not found.complete
    assert found.archs == whole.archs
    assert (found.glibc, found.cudart, found.torch) == (whole.glibc, whole.cudart, "2.9")
    assert "needs the whole wheel" in found.notes[0]


def test_a_large_remote_wheel_is_linked_from_its_beginning(
    planted: Path, sound: Path, environment: Environment, tmp_path: Path
) -> None:
    for extension, undefined in ((planted, ("_ZN3c107renamedEi",)), (sound, ())):
        large = large_wheel(tmp_path, extension)
        with serve(tmp_path) as server:
            found = inspect(f"{server.url}/{large.name}", against=environment.lib_dir)
        assert (found.undefined, found.missing_libraries, found.missing_versions) == (undefined, (), ())
        assert found.abi is Abi.CXX11
        assert not found.complete


def test_a_remote_read_that_breaks_off_goes_on(extension: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, extension)
    with serve(tmp_path) as server:
        server.broken_after = 1000
        assert inspect(f"{server.url}/{wheel.name}").archs == sort_archs(ARCHS)


def test_a_small_remote_wheel_is_read_whole_and_linked(planted: Path, environment: Environment, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, planted)
    with serve(tmp_path) as server:
        found = inspect(f"{server.url}/{wheel.name}", against=environment.lib_dir)
    assert found.complete
    assert found.undefined == ("_ZN3c107renamedEi",)
    assert found.missing_libraries == ()


def test_a_remote_kernel_less_wheel_is_recognised(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "flash_attn-2.8.3-py3-none-any.whl", {"flash_attn/flash_attn_interface.py": INTERFACE})
    with serve(tmp_path) as server:
        assert inspect(f"{server.url}/{wheel.name}").kernels is False


def test_a_server_without_ranges_sends_it_all_and_that_is_said(extension: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, extension)
    with serve(tmp_path) as server:
        server.ranges = False
        found = inspect(f"{server.url}/{wheel.name}")
    assert found.archs == sort_archs(ARCHS)
    assert found.bytes_read == found.bytes_total == wheel.stat().st_size
    assert "no byte ranges" in found.notes[0]


def test_a_wheel_that_is_not_there_is_an_unreachable_source(tmp_path: Path) -> None:
    with serve(tmp_path) as server, pytest.raises(SourceUnreachable):
        inspect(f"{server.url}/{NAME}")


def test_credentials_in_a_url_are_not_repeated(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "x-1-py3-none-any.whl", {})
    with serve(tmp_path) as server:
        url = f"{server.url.replace('://', '://user:secret@')}/{wheel.name}"
        assert "secret" not in to_json(inspect(url))
