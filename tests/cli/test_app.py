from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from provisioner.cli import app

pytestmark = pytest.mark.subprocess


def provision(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "provisioner", *words], capture_output=True, text=True, timeout=timeout)


def test_a_full_disk_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, "-c", DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert made.returncode == 3
    assert json.loads(made.stdout)["error"]["code"] == "disk-or-tmp-full"
    assert "PROVISION_CACHE_DIR" in made.stderr
    assert "Traceback" not in made.stderr


DISK = """
import errno, os, sys
from provisioner import paths
from provisioner.cli.app import main
def full(*_, **__): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), sys.argv[1])
paths.scratch_dir = full
os.environ["PROVISION_CACHE_DIR"] = os.environ["PROVISION_WHEELHOUSE"] = sys.argv[1]
main(["build", "--adapter", "aten", "--json"])
"""


def test_help_names_every_command_and_loads_none_of_them() -> None:
    code = "import sys; from provisioner.cli import main\ntry: main(['--help'])\nfinally: print('\\n'.join(sys.modules), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert all(f"  {name}" in run.stdout for name in app.COMMANDS)
    loaded = run.stderr.split()
    heavy = {"rich", "requests", "rattler", "conda_lock", "msgspec", "psutil", "elftools", "pynvml", "packaging"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)
    assert not any(name.startswith("provisioner.cli.") and name != "provisioner.cli.app" for name in loaded)


def test_help_is_instant() -> None:
    """The CPU time of a whole process beside that of an interpreter that loads click alone, in turn: a busy machine does not decide."""

    def cpu_seconds(words: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(cpu_seconds(["-c", "import click"]), cpu_seconds(["-m", "provisioner", "--help"])) for _ in range(9)]
    bare, ours = (min(times) for times in zip(*pairs, strict=True))
    assert ours < bare + 0.06


@pytest.mark.parametrize("name", sorted(app.COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    run = provision(name, "--help")
    assert run.returncode == 0, run.stderr
    assert "Usage: provision " + name in run.stdout


def test_an_unknown_command_is_refused_with_the_nearest_one() -> None:
    run = provision("creat" if "create" in app.COMMANDS else "lst")
    assert run.returncode == 2
    assert "did you mean" in run.stderr


def test_an_error_is_a_document_too() -> None:
    run = provision("activate", "nothing", "--json")
    document = json.loads(run.stdout)
    assert run.returncode == 2
    assert document["schema"] == 1
    assert document["error"]["code"] == "no-environment"
    assert "no environment 'nothing'" in run.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    run = subprocess.run(f"{sys.executable} -m provisioner --help | true", shell=True, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in run.stderr


def test_the_module_and_the_script_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("provision")
    assert (
        subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60).stdout == provision("--version").stdout
    )


@pytest.mark.parametrize("words", ["list", "knowledge show gpus", "plan --gpu v100 --explain --json", "--help"])
def test_a_reader_that_leaves_early_gets_exit_0(words: str) -> None:
    shell = f"set -o pipefail; {sys.executable} -m provisioner {words} | head -c 1 >/dev/null"
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_closed_streams_change_no_exit_code(closed: str) -> None:
    for words, code in (("list", 0), ("list --json", 0), ("activate nothing", 2)):
        run = subprocess.run(["bash", "-c", f"{sys.executable} -m provisioner {words} {closed}"], capture_output=True, timeout=60)
        assert run.returncode == code
        assert b"Traceback" not in run.stderr


def test_a_full_disk_behind_stdout_is_an_error_without_traceback() -> None:
    run = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m provisioner list --json >/dev/full"], capture_output=True, text=True
    )
    assert run.returncode not in (0, 1)
    assert run.stderr.startswith("error[")
    assert "Traceback" not in run.stderr


def test_an_encoding_without_our_letters_still_gets_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    run = provision("knowledge", "show", "flash_attn", "--json")
    assert run.returncode == 0
    assert "≤" in json.dumps(json.loads(run.stdout), ensure_ascii=False)
    assert provision("knowledge", "show", "flash_attn").returncode == 0


@pytest.mark.parametrize(
    "words", [["plan", "--gpus", "h100"], ["--json", "detect"], ["plan", "--backend", "x"], ["recipes", "show"]]
)
def test_a_wrong_command_line_has_the_shape_of_every_error(words: list[str]) -> None:
    run = provision(*words, "--json")
    error = json.loads(run.stdout)["error"]
    assert run.returncode == error["exit_code"] == 2
    assert run.stderr.startswith("error[usage]: ")
    assert f"next: {error['hints'][0]}" in run.stderr


def test_an_unforeseen_fault_is_said_to_be_ours_and_shows_where_on_demand() -> None:
    code = "from provisioner.cli import app\ndef fail(words): raise KeyError('x')\napp._run = fail\napp.main({words})"
    for words, shown in ((["list", "--json"], False), (["list", "-v"], True)):
        run = subprocess.run([sys.executable, "-c", code.format(words=words)], capture_output=True, text=True, timeout=60)
        assert run.returncode == app.EXIT_FAULT
        assert "a fault of provision, not of what you asked" in run.stderr
        assert ("Traceback" in run.stderr) is shown


def test_verbose_says_what_ran_but_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from provisioner import process, progress

    said: list[str] = []
    token = progress.detailed.set(said.append)
    try:
        process.run([sys.executable, "-c", "", "https://user:secret@index.example/simple"], timeout=30)
        process.run(["/no/such/program"], timeout=30)
    finally:
        progress.detailed.reset(token)
    assert len(said) == 2
    assert "exit 0" in said[0]
    assert "https://…@index.example/simple" in said[0]
    assert "did not start" in said[1]


def parameters() -> list[tuple[str, click.Parameter]]:
    found: list[tuple[str, click.Parameter]] = []
    for name in app.COMMANDS:
        command = app.provision.get_command(click.Context(app.provision), name)
        assert command is not None
        several = command.commands.values() if isinstance(command, click.Group) else [command]
        found += [(name, parameter) for one in several for parameter in one.params]
    return found


def test_help_speaks_of_versions_and_numbers_not_of_types() -> None:
    raw = ("TEXT", "INTEGER", "FLOAT", "RANGE", "UNPROCESSED")
    context = click.Context(app.provision)
    wrong = [
        f"{name} {parameter.opts[0]}"
        for name, parameter in parameters()
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
        if any(word in parameter.make_metavar(context) for word in raw)
    ]
    assert wrong == []


def test_every_option_says_what_it_does() -> None:
    assert [f"{name} {one.opts[0]}" for name, one in parameters() if isinstance(one, click.Option) and not one.help] == []


def test_every_command_takes_the_options_that_all_share() -> None:
    shared = {"--json", "--quiet", "--verbose", "--offline", "--no-color", "--yes"}
    for name in app.COMMANDS:
        known = {option for command, one in parameters() if command == name for option in one.opts}
        assert shared <= known, name


def test_a_user_without_a_home_is_told_what_to_set_and_needs_nothing_more(tmp_path: Path) -> None:
    """A container run with a numeric user, and HOME not set: here a name space in which this user is a stranger."""
    stranger = ["unshare", "--user", "--map-user=54321"]
    if shutil.which("unshare") is None or subprocess.run([*stranger, "true"], capture_output=True).returncode:
        pytest.skip("no user name spaces here")

    def as_stranger(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        left_out = ("HOME", "PROVISION_DATA_DIR", "PROVISION_CACHE_DIR")
        environ = {name: value for name, value in os.environ.items() if name not in left_out}
        command = [*stranger, sys.executable, "-m", "provisioner", *words]
        return subprocess.run(command, env={**environ, **more}, capture_output=True, text=True, timeout=60)

    said = as_stranger("list")
    assert (said.returncode, said.stdout) == (2, "")
    assert "error[no-home]" in said.stderr
    named = {"PROVISION_DATA_DIR": str(tmp_path / "d"), "PROVISION_CACHE_DIR": str(tmp_path / "c")}
    assert as_stranger("list", **named).returncode == 0
    again = as_stranger("lock", "--offline", "--gpu", "h100", "--driver", "580.65.06", "--dry-run", **named)
    assert again.returncode != app.EXIT_FAULT, again.stderr


def test_options_before_the_command_are_answered_with_the_line_to_type() -> None:
    said = provision("--gpu", "h100", "plan")
    assert said.returncode == 2
    assert "provision plan --gpu h100" in said.stderr
