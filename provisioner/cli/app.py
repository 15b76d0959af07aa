"""The ``provision`` command: finds the module of a subcommand, runs it, and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from provisioner import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from provisioner.errors import ProvisionError

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module under provisioner.cli, one-line help); listed here so that `--help` imports no command
    "detect": ("detect", "Show the GPUs, driver, system and tools of this machine."),
    "capture": ("capture", "Write this machine to a folder that any other can plan for."),
    "plan": ("plan", "Choose what to install on this machine, or another, and say why."),
    "lock": ("lock", "Resolve the exact files, with hashes, and write conda-lock.yml."),
    "bundle": ("bundle", "Fetch everything that a lock needs, for a machine without a network."),
    "create": ("create", "Make an environment for this machine, and prove it."),
    "install": ("install", "Install the right flash-attn beside a Python that is already there."),
    "build": ("build", "Compile flash-attn from source: only the architectures and kernels asked for."),
    "inspect": ("inspect", "Say what a wheel, an extension or an installed flash-attn really holds, and whether it fits."),
    "verify": ("verify", "Prove an environment: imports, numbers, refusals and speed on every GPU."),
    "doctor": ("doctor", "Find what is wrong with an environment, or with the machine of a pasted report, and fix it."),
    "list": ("list", "List the environments."),
    "run": ("run", "Run a command inside an environment."),
    "activate": ("activate", "Print code that activates an environment."),
    "rollback": ("rollback", "Go back to an environment's previous generation."),
    "remove": ("remove", "Delete an environment."),
    "recipes": ("recipes", "List, show and check recipes."),
    "knowledge": ("knowledge", "Show what the choice rests on; refresh the list of prebuilt wheels."),
    "completion": ("completion", "Print code that completes commands, options and names in your shell."),
}

LEFT_AT_ONCE = frozenset({"rattler", "provisioner.machine.probe"})
"""Modules after which the interpreter is not finalised: py-rattler 0.28 can crash in that, after a complete result (measured
2026-11-24: 5-36 % of short runs); a probe may still hang inside the driver, and a tenth of `detect`'s time went there."""

EXIT_FAULT = 70
"""A fault of this program (sysexits.h, EX_SOFTWARE): no code of the contract, so that a script never takes it for a finding."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"provisioner.cli.{COMMANDS[name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, and the options of the group; click's own way imports every command."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return [*click.Command.shell_complete(self, ctx, incomplete)]
        return [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        from provisioner.errors import UsageError

        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hints = [f"did you mean `provision {near[0]}`?"] if near else ["`provision --help` lists the commands"]
            raise UsageError(f"no such command: {args[0]}", hints=hints, code="unknown-command")
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="provision")
def provision() -> None:
    """Flash-attn and Unsloth environments that work: find out what this machine can run, lock it, create it, prove it."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with the exit code of the contract.

    The process ends through ``os._exit`` once one of `LEFT_AT_ONCE` was loaded.
    """
    words = sys.argv[1:] if argv is None else argv
    _open_streams()
    code = _flushed(_guarded(words))
    if LEFT_AT_ONCE & sys.modules.keys():
        if logging := sys.modules.get("logging"):
            logging.shutdown()
        os._exit(code)
    sys.exit(code)


def _open_streams() -> None:
    """Make both streams writable whatever the caller closed, and able to write every letter whatever the locale.

    A letter that the encoding lacks is written as an escape, which in a JSON document means the same letter.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - open to the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """Write out what is still buffered and return the exit code; a reader that has left is no error, a full disk is one."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return code
        print(f"error[output-lost]: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return code


def _guarded(words: list[str]) -> int:
    """Run the command; whatever nobody foresaw is said to be a fault of this program, with its traceback under ``-v`` alone."""
    stdout = sys.stdout
    try:
        return _run(words)
    except SystemExit as ended:
        left = sys.stdout is not stdout  # click wraps it and ends with 1 when the reader of our output has left (8.2 to 8.5)
        return 0 if left or not isinstance(ended.code, int) else ended.code
    except Exception as error:
        import traceback

        from provisioner.cli.console import show_error
        from provisioner.errors import ProvisionError

        if any(re.fullmatch("--verbose|-[a-z]*v[a-z]*", word) for word in words):
            traceback.print_exception(error)
        fault = ProvisionError(
            f"provision met a case that it does not know: {type(error).__name__}: {error}",
            why="this is a fault of provision, not of what you asked",
            hints=["the same command with -v shows where it happened: report that", "`provision capture DIR` adds this machine"],
            code="internal-fault",
        )
        show_error(fault, as_json="--json" in words, exit_code=EXIT_FAULT)
        return EXIT_FAULT


def _run(words: list[str]) -> int:
    from provisioner.errors import EXIT_INTERRUPTED, ProvisionError, of_os_error

    try:
        result: Any = provision.main(words, prog_name="provision", standalone_mode=False)
    except ProvisionError as error:
        return _failed(error, words)
    except click.exceptions.Abort:
        print("interrupted; nothing was left half-made", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted; nothing was left half-made", file=sys.stderr)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _misread(error, words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (refused := of_os_error(error)) is None:
            raise
        return _failed(refused, words)
    return result if isinstance(result, int) else 0


def _failed(error: ProvisionError, words: list[str]) -> int:
    from provisioner.cli.console import show_error

    show_error(error, as_json="--json" in words)
    return error.exit_code


def _misread(error: click.ClickException, words: list[str]) -> int:
    """Show click's refusal of the command line in the shape of every other error; no arguments at all show the help."""
    from provisioner.errors import UsageError

    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    path = context.command_path if context else "provision"
    hints = [f"`{path} --help` shows how it is called"]
    if path == "provision" and (named := next((word for word in words if word in COMMANDS), None)):
        others = [word for word in words if word != named]
        hints.insert(0, f"options go behind the command: {shlex.join(['provision', named, *others])}")
    message = error.format_message().rstrip(".")
    return _failed(UsageError(message[0].lower() + message[1:], hints=hints), words)
