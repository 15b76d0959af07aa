"""What it takes to work inside an environment: variables for a child process, and code for a shell to evaluate."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from provisioner import process
from provisioner.environments.store import Environment
from provisioner.errors import UsageError
from provisioner.planning.values import Plan

SHELLS = ("bash", "zsh", "sh", "fish", "csh")


def variables(environment: Environment, base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` changed so that a program started with it runs inside the environment.

    The generation's real path is used: through the name's symlink a running process would import from the next generation.
    """
    changed = {name: value for name, value in base.items() if name not in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")}
    changed["PATH"] = f"{environment.prefix / 'bin'}:{base.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    changed["CONDA_PREFIX" if environment.manifest.backend == "conda" else "VIRTUAL_ENV"] = str(environment.prefix)
    return changed | environment.manifest.plan.activation


def script(environment: Environment, shell: str) -> str:
    """Return code that activates the environment when ``shell`` evaluates it."""
    if shell not in SHELLS:
        raise UsageError(
            f"no activation for the shell {shell!r}", hints=[f"--shell one of {', '.join(SHELLS)}"], code="unknown-shell"
        )
    if environment.manifest.backend == "conda":
        return _conda_script(environment.prefix, shell)
    suffix = {"fish": ".fish", "csh": ".csh"}.get(shell, "")
    command = "." if shell in ("sh", "bash", "zsh") else "source"
    return f"{command} {shlex.quote(str(environment.prefix / 'bin' / f'activate{suffix}'))}\n"


def command(environment: Environment, words: Sequence[str], base: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the argument list and the variables that run ``words`` inside the environment.

    A conda prefix is entered through its activation scripts, since compilers and CUDA set their variables there.
    """
    changed = variables(environment, base)
    if environment.manifest.backend != "conda":
        return list(words), changed
    return ["bash", "-c", f'{_conda_script(environment.prefix, "bash")}\nexec "$@"', "provision", *words], changed


def entered(prefix: Path, plan: Plan, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that entering the environment in ``prefix`` sets or changes: the plan's, and what a conda prefix's scripts add.

    Those of a prefix whose scripts fail are left out.
    """
    changed = {**base, "PATH": f"{prefix / 'bin'}:{base.get('PATH', '/usr/local/bin:/usr/bin:/bin')}", **plan.activation}
    if plan.backend == "conda":
        script = f"{_conda_script(prefix, 'bash')}\nprintf '{_MARK}'; env -0"
        said = process.run(["bash", "-c", script], env=changed, timeout=60).out
        lines = (line.partition("=") for line in said.rpartition(_MARK)[2].split("\0") if "=" in line)
        changed |= {name: value for name, _, value in lines if name not in _SHELL_OWN}
    return {name: value for name, value in changed.items() if base.get(name) != value}


_MARK = "@entered@"
_SHELL_OWN = ("_", "SHLVL", "PWD", "OLDPWD")


def _conda_script(prefix: Path, shell: str) -> str:
    from rattler import Subdir
    from rattler.shell import ActivationVariables, Shell, activate

    kinds = {"bash": Shell.bash, "sh": Shell.bash, "zsh": Shell.zsh, "fish": Shell.fish}
    if shell not in kinds:
        raise UsageError(
            f"no activation of a conda prefix for {shell}", hints=[f"--shell one of {', '.join(kinds)}"], code="unknown-shell"
        )
    return str(activate(prefix, ActivationVariables(current_path=[]), kinds[shell], Subdir.current()).script)


def write_activation_variables(prefix: Path, activation: Mapping[str, str]) -> None:
    """Append the plan's variables to the prefix's own activation scripts, so that every way of activating sets them."""
    if not activation:
        return
    if (prefix / "conda-meta").is_dir():  # read by conda, micromamba and rattler when they activate
        (prefix / "conda-meta" / "state").write_text(json.dumps({"env_vars": dict(activation)}))
        return
    forms = {"": "export {}={}", ".fish": "set -gx {} {}", ".csh": "setenv {} {}"}
    for suffix, form in forms.items():
        path = prefix / "bin" / f"activate{suffix}"
        if path.exists():
            lines = [form.format(name, shlex.quote(value)) for name, value in sorted(activation.items())]
            path.write_text(path.read_text() + "\n# set by provision for this stack\n" + "\n".join(lines) + "\n")
