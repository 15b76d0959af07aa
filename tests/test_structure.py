"""How the package is built: which room may know which, who prints, who runs programs, who reaches the network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import provisioner

PACKAGE = Path(provisioner.__file__).parent

BELOW = {
    "machine": ("knowledge",),
    "knowledge": (),
    "wheels": ("machine", "knowledge"),
    "building": ("planning", "wheels", "machine", "knowledge"),
    "planning": ("building", "machine", "knowledge"),
    "locking": ("planning", "adapter", "machine", "knowledge"),
    "adapter": ("locking", "planning", "building", "wheels", "machine", "knowledge"),
    "verifying": ("planning", "wheels", "machine", "knowledge"),
    "environments": ("verifying", "adapter", "locking", "planning", "building", "wheels", "machine", "knowledge"),
    "diagnosing": ("environments", "verifying", "planning", "wheels", "machine", "knowledge"),
    "cli": None,
}
"""Room → the rooms that it may import; None: all. `planning` and `building` share values and costs, `locking` and `adapter` the lock's entry."""

CHILD_SCRIPTS = ("verifying/child/", "diagnosing/child/", "adapter/flash_attn/")
"""What runs in other interpreters than ours, where nothing of ours is."""


@cache
def modules() -> dict[str, ast.Module]:
    """Path below the package → parsed source."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything that is imported, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(file: str) -> str:
    return file.partition("/")[0] if "/" in file else ""


def importers(*names: str, but: tuple[str, ...] = ()) -> list[str]:
    """Return the places that import one of ``names`` (a module, or a name in it), except in files that begin with ``but``."""
    return [
        f"{file}:{line}"
        for file, tree in modules().items()
        for line, name in imported(tree)
        if any(f"{name}.".startswith(f"{wanted}.") for wanted in names) and not file.startswith((*CHILD_SCRIPTS, *but))
    ]


def called(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name as written) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def callers(*names: str, but: tuple[str, ...] = ()) -> list[str]:
    """Return the places that call one of ``names``, except in files that begin with ``but``."""
    return [
        f"{file}:{line}"
        for file, tree in modules().items()
        for line, name in called(tree)
        if name in names and not file.startswith((*CHILD_SCRIPTS, *but))
    ]


def test_every_room_is_listed() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(BELOW)


def test_a_room_imports_only_rooms_below_it() -> None:
    wrong = []
    for file, tree in modules().items():
        room = room_of(file)
        if not room or file.startswith(CHILD_SCRIPTS) or (allowed := BELOW[room]) is None:
            continue
        for line, name in imported(tree):
            parts = name.split(".")
            if parts[0] == "provisioner" and len(parts) > 1 and parts[1] in BELOW and parts[1] not in (room, *allowed):
                wrong.append(f"{file}:{line}: {room} imports {name}")
    assert wrong == []


def test_what_lies_beside_the_rooms_imports_none_of_them() -> None:
    wrong = [
        f"{file}: {name}"
        for file, tree in modules().items()
        if not room_of(file) and file != "__main__.py"
        for _, name in imported(tree)
        if name.startswith("provisioner.") and name.split(".")[1] in BELOW
    ]
    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    assert importers("provisioner.cli", but=("cli/", "__main__.py")) == []


def test_only_the_command_line_prints() -> None:
    own_program = "diagnosing/relocation.py"  # a repair's command line, for a prefix without `provision`
    assert callers("print", "sys.stdout.write", "sys.stderr.write", "click.echo", "input", but=("cli/", own_program)) == []
    assert importers("rich", "click", but=("cli/",)) == []


def test_programs_are_run_in_one_place() -> None:
    assert importers("subprocess", "multiprocessing", "pty", but=("process.py",)) == []
    replacing = ("os.system", "os.popen", "os.fork", "os.posix_spawn", "os.execve", "os.execv", "os.execvp", "os.spawnv")
    assert callers(*replacing, but=("process.py", "cli/run.py")) == []  # `provision run` becomes the command


def test_bytes_from_outside_come_in_at_one_place() -> None:
    assert importers("requests", "urllib3", "http.client", "httpx", "aiohttp", but=("download.py",)) == []
    assert callers("urlopen", "urlretrieve", "urllib.request.urlopen") == []
    assert importers("pypi_simple.PyPISimple") == []


def test_no_module_is_two_things() -> None:
    """Past about 400 lines a module is two: data and logic, or two tasks."""
    long = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in modules()}
    assert {file: lines for file, lines in long.items() if lines > 400} == {}
