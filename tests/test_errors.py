"""Every error says what to do next, and what it tells the user to type exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from provisioner import errors
from provisioner.cli.app import COMMANDS, provision

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ProvisionError)
}
README = PACKAGE.parent / "README.md"


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))
    )


def mute_errors() -> Iterator[str]:
    """Yield the places that make an error with no hint, of a class that has none by default."""
    for file, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in CLASSES:
                continue
            stated = {keyword.arg for keyword in node.keywords}  # None stands for **keywords
            if "hints" not in stated and None not in stated and not CLASSES[node.func.id].default_hints:
                yield f"{file}:{node.lineno}"


def test_every_error_says_what_to_type_next() -> None:
    assert list(mute_errors()) == []


_INVOCATION = re.compile(r"\bprovision ((?:[a-z]+)(?: [^`|;()\n]*)?)")
_PLACEHOLDER = "\N{BULLET}"


def written_text(node: ast.AST) -> str | None:
    """Return a literal's text; what an f-string fills in becomes a placeholder."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else _PLACEHOLDER for part in node.values
        )
    return None


def told_commands() -> Iterator[tuple[str, str]]:
    """Yield (place, words) of everything that the package's texts and README tell the user to type."""
    for file, tree in sources():
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) not in parts and (text := written_text(node)) is not None:
                yield from ((f"{file}:{getattr(node, 'lineno', 0)}", match[1]) for match in _INVOCATION.finditer(text))
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines(), 1):
        marked = [line] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
        yield from ((f"README.md:{number}", match[1]) for text in marked for match in _INVOCATION.finditer(text))


def options_of(words: list[str]) -> tuple[click.Command | None, set[str]]:
    """Return the command that ``words`` name, subcommands followed, and the options it has."""
    context = click.Context(provision, info_name="provision")
    command: click.Command | None = provision
    while isinstance(command, click.Group) and words and re.fullmatch("[a-z]+", words[0]):
        command = command.get_command(context, words.pop(0))
    if command is None:
        return None, set()
    return command, {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def mistakes(told: str) -> Iterator[str]:
    """Yield what is wrong with a command line that some text tells the user to type."""
    if told.split()[0] not in COMMANDS:
        return  # prose: "provision is", not a command
    try:
        words = shlex.split(told.replace("…", ""), comments=True)
    except ValueError:
        words = told.split()
    command, known = options_of(words)
    if command is None:
        yield "no such command"
        return
    if command.name == "run":
        return  # what follows is another program's
    for word in words:
        option = re.match(r"--[a-z][a-z0-9-]*", word)
        if option and _PLACEHOLDER not in word and option[0] not in known:
            yield f"{command.name} has no {option[0]}"


def test_what_a_text_tells_the_user_to_type_exists() -> None:
    told = list(told_commands())
    assert len(told) > 100, "the texts are found"
    assert [f"{place}: provision {words}: {wrong}" for place, words in told for wrong in mistakes(words)] == []


@pytest.mark.parametrize("told", ["lock --chekc FILE", "knowledge refresh", "build --ark sm_90", "recipes show ampere --jsn"])
def test_a_wrong_command_would_be_seen(told: str) -> None:
    assert list(mistakes(told))


def test_every_exit_code_is_in_readme_and_belongs_to_one_class() -> None:
    table = dict(re.findall(r"\| (\d+) \| ([^|]+?) (?=\|)", README.read_text(encoding="utf-8")))
    owned = [kind.exit_code for kind in CLASSES.values() if kind is not errors.ProvisionError]
    assert sorted(owned) == sorted(set(owned))
    assert {str(code) for code in owned} <= set(table)
