"""The whole engine on a small tree, with the real nvcc, g++ and ninja: from the sdist to a wheel that imports and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from provisioner import paths
from provisioner.building import build as engine
from provisioner.building import releases
from provisioner.building.acceptance import accept_wheel
from provisioner.building.build import BuildOrder, BuiltWheel, build_dir, build_flash_attn, forecast_build, prepare
from provisioner.building.releases import Release
from provisioner.building.target import read_target
from provisioner.building.toolchain import find_toolchain
from provisioner.building.wheelhouse import Wheelhouse
from provisioner.cli.build import command
from provisioner.errors import BuildFailed
from provisioner.planning.values import KernelSelection
from tests.building.tiny import tiny_python, tiny_release

pytestmark = pytest.mark.integration

CHOICE = KernelSelection("custom", (64,), ("bf16",), ("backward", "varlen", "local", "softcap", "uneven", "alibi"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name has a space, with a tiny environment in it; skipped where no CUDA 13 compiler is installed."""
    folder = tmp_path_factory.mktemp("work shop")
    python = tiny_python(folder / "env")
    try:
        find_toolchain(read_target(python))
    except BuildFailed as error:
        pytest.skip(str(error))
    return folder


def put_sdist(release: Release, archive: Path, cache: Path) -> None:
    place = cache / "sources" / release.sha256[:16] / release.filename
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(archive.read_bytes())


@pytest.fixture
def tiny(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """The tiny release, known to the engine and lying in the cache."""
    release, archive = tiny_release(tmp_path)
    monkeypatch.setattr(releases, "RELEASES", (release,))
    put_sdist(release, archive, Path(os.environ["PROVISION_CACHE_DIR"]))
    return release


def order(workshop: Path, *, kernels: KernelSelection = CHOICE, archs: tuple[str, ...] = ("sm_90",)) -> BuildOrder:
    return BuildOrder(python=workshop / "env" / "bin" / "python", archs=archs, kernels=kernels)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache, with the wheelhouse, of the build that several tests look at."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def same_cache(built: tuple[BuiltWheel, Release], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the cache of ``built``, with its release known."""
    monkeypatch.setattr(releases, "RELEASES", (built[1],))
    monkeypatch.setenv("PROVISION_CACHE_DIR", str(cache))


@pytest.fixture(scope="module")
def built(workshop: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltWheel, Release]:
    """One build of the tiny tree, made once."""
    release, archive = tiny_release(tmp_path_factory.mktemp("sdist"))
    put_sdist(release, archive, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "RELEASES", (release,))
        patch.setenv("PROVISION_CACHE_DIR", str(cache))
        for name in list(os.environ):
            if name.startswith(("CUDA", "NVCC")):
                patch.delenv(name)
        return build_flash_attn(order(workshop)), release


def run_python(workshop: Path, wheel: Path, folder: Path, code: str) -> str:
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(folder)
    libraries = next((workshop / "env" / "lib").glob("python3*")) / "site-packages" / "torch" / "lib"
    cuda = find_toolchain(read_target(workshop / "env" / "bin" / "python")).root / "lib64"
    env = {**os.environ, "LD_LIBRARY_PATH": f"{libraries}:{cuda}", "PYTHONPATH": str(folder)}
    done = subprocess.run([workshop / "env" / "bin" / "python", "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_only_the_chosen_units_are_compiled(built: tuple[BuiltWheel, Release]) -> None:
    wheel, _ = built
    assert len(wheel.compiled) == 4 + 1 + 1 + 1  # kernels, host code, stubs, the link
    assert wheel.version.startswith("2.8.3.post2+cu130torch2.13.k")
    assert not wheel.reused
    assert wheel.cpu_seconds > 1


def test_the_wheel_imports_and_its_kernels_run(built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path) -> None:
    code = "import flash_attn, flash_attn_2_cuda as f; print(f.run(64, 1, 0), f.run(64, 1, 1), f.dropout)"
    assert run_python(workshop, built[0].path, tmp_path, code) == "128 128 0"


@pytest.mark.parametrize(("dim", "bf16", "missing"), [(32, 1, "--head-dims 32,64"), (64, 0, "--dtypes fp16,bf16")])
def test_a_missing_kernel_raises_and_names_the_rebuild_command(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path, dim: int, bf16: int, missing: str
) -> None:
    code = f"import flash_attn_2_cuda as f\ntry: f.run({dim}, {bf16}, 0)\nexcept RuntimeError as error: print(error)"
    message = run_python(workshop, built[0].path, tmp_path, code)
    assert "rebuild with: provision build" in message
    assert missing in message


def test_appending_to_a_cache_is_refused_and_a_call_that_was_only_split_for_speed_is_not(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path
) -> None:
    code = "import flash_attn_2_cuda as f\nprint(f.run(64, 1, 0))\ntry: f.run(64, 1, 0, 1)\nexcept RuntimeError as error: print(error)"
    plain, message = run_python(workshop, built[0].path, tmp_path, code).splitlines()
    assert plain == "128"
    assert "no kernels that append to a key/value cache" in message
    assert "--features alibi,backward,kvcache" in message


def test_a_block_shape_for_other_gpus_is_refused(built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path) -> None:
    code = "import flash_attn_2_cuda as f\ntry: f.run(64, 1, 0, 0, 1)\nexcept RuntimeError as error: print(error)"
    assert "is for sm_90; rebuild it with --arch" in run_python(workshop, built[0].path, tmp_path, code)


def test_pip_takes_the_wheel_and_its_provenance_tells_how_it_was_made(built: tuple[BuiltWheel, Release], tmp_path: Path) -> None:
    wheel, release = built
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--offline", "--quiet", "--no-deps", "--target", tmp_path, wheel.path],
        check=True,
    )
    provenance = json.loads(next(tmp_path.glob("*.dist-info/provenance.json")).read_text())
    assert provenance["source"]["sha256"] == release.sha256
    assert provenance["inputs"]["archs"] == ["sm_90"]
    assert provenance["key"] == wheel.key
    assert {patch["name"] for patch in provenance["patches"]} == {
        "arch-list",
        "source-list",
        "kvcache",
        "block-shapes",
        "features",
    }


@pytest.mark.usefixtures("same_cache")
def test_the_second_order_takes_the_wheel_from_the_wheelhouse_within_two_seconds(
    built: tuple[BuiltWheel, Release], workshop: Path
) -> None:
    again = build_flash_attn(order(workshop))
    assert again.reused
    assert again.sha256 == built[0].sha256
    assert again.seconds < 2.0


@pytest.mark.usefixtures("same_cache")
def test_another_environment_with_the_same_torch_shares_the_wheel(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path
) -> None:
    other = tiny_python(tmp_path / "elsewhere")
    assert prepare(BuildOrder(python=other, archs=("sm_90",), kernels=CHOICE)).digest == built[0].key


def test_what_shapes_the_binary_changes_the_key(tiny: Release, workshop: Path) -> None:
    base = prepare(order(workshop)).digest
    fewer = KernelSelection("custom", (64,), ("bf16",), ("backward", "varlen"))
    assert prepare(order(workshop, kernels=fewer)).digest != base
    assert prepare(order(workshop, archs=("sm_80", "sm_90"))).digest != base
    assert prepare(order(workshop, archs=("sm_90", "sm_90"))).digest == base


def test_a_forecast_compiles_nothing(tiny: Release, workshop: Path) -> None:
    expected = forecast_build(prepare(order(workshop)))
    assert expected.units == 6
    assert expected.cpu_seconds > 300
    assert not (Path(os.environ["PROVISION_CACHE_DIR"]) / "builds").exists()


def test_a_unit_that_does_not_compile_ends_the_build_and_is_shown(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, archive = tiny_release(tmp_path, broken="flash_fwd_split_hdim64_bf16_causal_sm80")
    monkeypatch.setattr(releases, "RELEASES", (release,))
    put_sdist(release, archive, Path(os.environ["PROVISION_CACHE_DIR"]))
    one = KernelSelection("custom", (64,), ("bf16",), ("varlen", "kvcache"))
    with pytest.raises(BuildFailed, match="planted") as caught:
        build_flash_attn(order(workshop, kernels=one))
    assert caught.value.exit_code == 6
    assert Wheelhouse().find(prepare(order(workshop, kernels=one)).digest) is None


def test_a_wheel_that_would_not_load_never_enters_the_wheelhouse(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It links, since the linker lets extensions have open symbols; only the dry link sees that this torch lacks one."""
    release, archive = tiny_release(tmp_path, unresolved=True)
    monkeypatch.setattr(releases, "RELEASES", (release,))
    put_sdist(release, archive, Path(os.environ["PROVISION_CACHE_DIR"]))
    one = KernelSelection("custom", (64,), ("bf16",), ("varlen",))
    with pytest.raises(BuildFailed, match="_ZN3c107nowhereEv") as caught:
        build_flash_attn(order(workshop, kernels=one))
    assert caught.value.code == "undefined-symbol-abi-mismatch"
    assert Wheelhouse().find(prepare(order(workshop, kernels=one)).digest) is None


def test_a_wheel_without_code_for_a_wanted_arch_is_not_proved(built: tuple[BuiltWheel, Release], workshop: Path) -> None:
    target = read_target(workshop / "env" / "bin" / "python")
    assert accept_wheel(built[0].path, target, ("sm_90",)).working_archs == ("sm_90",)
    with pytest.raises(BuildFailed) as caught:
        accept_wheel(built[0].path, target, ("sm_90", "sm_120"))
    assert "sm_120" in " ".join(caught.value.details["reasons"])
    with pytest.raises(BuildFailed, match="sm_90a"):  # the same GPU, but not the code that was asked for
        accept_wheel(built[0].path, target, ("sm_90a",))


def test_a_cache_path_that_compilers_would_split_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("with space", "中文", "a$b", "a,b", 'a"b'):
        monkeypatch.setenv("PROVISION_CACHE_DIR", str(tmp_path / name))
        place = str(build_dir("ab" * 32))
        assert re.fullmatch(r"[\w./+~@%=-]+", place, re.ASCII)


OPTIONS = ["--arch", "sm_90", "--head-dims", "64", "--dtypes", "bf16"]


@pytest.mark.usefixtures("same_cache")
def test_the_command_copies_the_wheel_and_prints_one_document(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path
) -> None:
    words = [*OPTIONS, "--features", ",".join(CHOICE.features), "--python", str(workshop / "env" / "bin" / "python")]
    done = CliRunner().invoke(command, [*words, "-o", str(tmp_path / "out"), "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)["build"]
    assert document["reused"] is True
    assert document["sha256"] == built[0].sha256
    assert Path(document["path"]).read_bytes() == built[0].path.read_bytes()
    assert Path(document["path"]).parent == tmp_path / "out"
    forecast = CliRunner().invoke(command, [*words, "--dry-run"], catch_exceptions=False).stdout
    assert f"nothing would be compiled: the wheelhouse has it, {built[0].path}" in forecast


def test_a_dry_run_shows_units_time_and_memory(tiny: Release, workshop: Path) -> None:
    words = [*OPTIONS, "--dry-run", "--python", str(workshop / "env" / "bin" / "python")]
    text = CliRunner().invoke(command, words, catch_exceptions=False).output
    assert "6 units, 12 kernels as stubs" in text
    assert "GiB at most" in text
    document = json.loads(CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False).stdout)
    assert len(document["units"]) == document["forecast"]["units"] == 6


def test_a_models_config_chooses_the_kernels(tiny: Release, workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64, "num_attention_heads": 2, "torch_dtype": "float16"}))
    words = ["--arch", "sm_90", "--for-model", str(tmp_path / "config.json"), "--dry-run", "--json"]
    done = CliRunner().invoke(command, [*words, "--python", str(workshop / "env" / "bin" / "python")], catch_exceptions=False)
    names = {unit["name"] for unit in json.loads(done.stdout)["units"]}
    assert {name for name in names if "hdim" in name} == {
        f"flash_{way}_hdim32_fp16{mask}_sm80" for way in ("fwd", "bwd") for mask in ("", "_causal")
    }


DRIVER = """
import sys
from pathlib import Path
from provisioner import paths
from provisioner.building import releases
from provisioner.building.build import build_flash_attn
from tests.building.test_build import order
from tests.building.tiny import tiny_release
release, _ = tiny_release(Path(sys.argv[2]))
releases.RELEASES = (release,)
built = build_flash_attn(order(Path(sys.argv[1])))
print(built.sha256, len(built.compiled), built.reused)
"""


@pytest.mark.slow
def test_after_five_kills_the_wheel_equals_that_of_an_uninterrupted_build(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path, repository: Path
) -> None:
    import random

    release, archive = built[1], tmp_path / "x"
    archive.mkdir()
    tiny_release(archive)
    cache = Path(os.environ["PROVISION_CACHE_DIR"])
    put_sdist(release, archive / release.filename, cache)
    env = {**os.environ, "PYTHONPATH": str(repository), "CCACHE_DISABLE": "1"}  # every object is compiled
    argv = [sys.executable, "-c", DRIVER, str(workshop), str(archive)]
    objects = build_dir(built[0].key) / "obj"
    compiled = 0
    for _ in range(5):
        child = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.8, 2.4))
        if child.poll() is not None:  # a fast machine was done before the fifth
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert len(list(objects.glob("*.o"))) >= compiled
        compiled = len(list(objects.glob("*.o")))
    done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout.split()
    assert int(done[1]) <= 7 - compiled + 2
    shutil.rmtree(paths.wheelhouse_dir())
    whole = subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout.split()
    assert whole == [done[0], "7", "False"], "in the same folder: nvcc hashes the path of a source into names"


def test_of_two_processes_that_want_the_same_wheel_one_compiles_and_the_other_takes_it(
    built: tuple[BuiltWheel, Release], workshop: Path, tmp_path: Path, repository: Path
) -> None:
    tiny_release(tmp_path)
    put_sdist(built[1], tmp_path / built[1].filename, Path(os.environ["PROVISION_CACHE_DIR"]))
    env = {**os.environ, "PYTHONPATH": str(repository)}
    argv = [sys.executable, "-c", DRIVER, str(workshop), str(tmp_path)]
    both = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = sorted(child.communicate(timeout=300)[0].split() for child in both)
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1:] for answer in answers) == [["0", "True"], ["7", "False"]]


def test_variables_that_would_bring_in_other_headers_are_kept_from_the_compilers(
    tiny: Release, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc reads CPATH before every ``-isystem``; an environment module sets it to another CUDA's headers."""
    (tmp_path / "other" / "c10" / "util").mkdir(parents=True)
    (tmp_path / "other" / "c10" / "util" / "Exception.h").write_text("#error the headers of another torch\n")
    for name in ("CPATH", "CPLUS_INCLUDE_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "other"))
    one = KernelSelection("custom", (64,), ("bf16",), ("varlen",))
    assert build_flash_attn(order(workshop, kernels=one)).compiled


def test_what_a_power_loss_left_of_an_object_is_compiled_anew_by_the_next_run(
    tiny: Release, workshop: Path, tmp_path: Path
) -> None:
    """An object of an empty unit links well, and the extension then lacks its kernel."""
    prepared = engine.prepare(order(workshop))
    source, build = engine._source(prepared), tmp_path / "build"
    engine._compile(prepared, source, build)
    subprocess.run(["gcc", "-x", "c++", "-c", "/dev/null", "-o", tmp_path / "empty.o"], check=True)
    first = next(unit for unit in prepared.graph.units if "fwd" in unit.name)
    for left in ((tmp_path / "empty.o").read_bytes(), b""):
        (build / first.object).write_bytes(left)
        (build / "out" / prepared.graph.extension).unlink()
        if left:
            with pytest.raises(BuildFailed) as caught:
                engine._compile(prepared, source, build)
            assert caught.value.code == "missing-kernels"
        assert set(engine._compile(prepared, source, build).compiled) == {first.name, prepared.graph.extension}


def test_no_path_of_the_users_shell_gets_into_the_wheel(
    tiny: Release, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ld writes LD_RUN_PATH into what it links, and a shared wheelhouse would hand that to everybody."""
    monkeypatch.setenv("LD_RUN_PATH", "/opt/elsewhere/lib")
    one = KernelSelection("custom", (64,), ("bf16",), ("varlen",))
    wheel = build_flash_attn(order(workshop, kernels=one)).path
    with zipfile.ZipFile(wheel) as bundle:
        assert not [name for name in bundle.namelist() if b"/opt/elsewhere" in bundle.read(name)]
