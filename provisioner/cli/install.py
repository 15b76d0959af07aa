"""``provision install``: the right flash-attn for a Python that is already there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, python_option, speaking
from provisioner.cli.sources import mirroring


@click.command("install")
@python_option("The interpreter to install beside")
@click.option(
    "--env",
    "env",
    metavar="NAME",
    shell_complete=environments_beginning,
    help="The environment to install into: ours, or conda's of that name.",
)
@click.option("--flash-attn", "flash_attn", metavar="VERSION", help="Use this flash-attn.")
@click.option("--build/--no-build", default=None, help="Compile flash-attn in any case, or never.")
@click.option("--kernels", type=click.Choice(["full", "unsloth"]), help="Which kernels a build contains.")
@click.option("--head-dims", metavar="N,N", help="Compile these head dims only, e.g. 64,128.")
@click.option("--dtypes", metavar="T,T", help="Compile these dtypes only: fp16, bf16.")
@click.option("--features", metavar="F,F", help="Compile these features only.")
@click.option("--allow-community", is_flag=True, help="Accept wheels that third parties built.")
@click.option("--cuda-toolkit", metavar="DIR", help="Compile with this toolkit.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Compile at most this many units at a time.")
@click.option("--no-verify", is_flag=True, help="Do not check the result.")
@click.option("--dry-run", is_flag=True, help="Say what would be installed.")
@mirroring
@speaking
def command(
    python: Path | None,
    env: str | None,
    flash_attn: str | None,
    build: bool | None,
    kernels: str | None,
    head_dims: str | None,
    dtypes: str | None,
    features: str | None,
    allow_community: bool,
    cuda_toolkit: str | None,
    jobs: int | None,
    no_verify: bool,
    dry_run: bool,
    output: Output,
    offline: bool,
    yes: bool,
) -> None:
    """Install flash-attn beside the torch of PYTHON, a wheel or a build, and nothing else.

    What would break is refused with the way out; when the check afterwards fails, everything is put back.
    """
    from provisioner.cli.plan_text import plan_lines
    from provisioner.cli.selection import kernels_of
    from provisioner.cli.sources import with_sources
    from provisioner.environments.install import install, plan_beside
    from provisioner.environments.toolkit import check_toolkit
    from provisioner.indexes import read_index_settings
    from provisioner.machine.probe import probe
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.values import BuildChoice, Request

    target = interpreter(python, env)
    settings = read_index_settings()
    request = Request(
        flash_attn=flash_attn,
        build={True: BuildChoice.ALWAYS, False: BuildChoice.NEVER, None: BuildChoice.AUTO}[build],
        kernels=kernels_of(kernels, head_dims, dtypes, features),
        allow_community=allow_community,
        offline=offline,
    )
    with output.progress():
        machine = with_sources(probe(python=target), settings, ())
        plan = plan_beside(machine, request, load_catalog(wheelhouse=paths.wheelhouse_dir()))
        if not output.as_json and not output.quiet:
            for line in plan_lines(machine, plan):
                output.prose(line)
        done = None
        if dry_run:
            check_toolkit(plan, cuda_toolkit)
        else:
            done = install(target, plan, machine, settings, verify=not no_verify, toolkit=cuda_toolkit, jobs=jobs)
    if output.as_json:
        made = {"python": str(done.python), "wheel": str(done.wheel), "receipt": done.receipt} if done else None
        output.document(machine=machine, plan=replace(plan, candidates=()), installed=made)
    elif done is not None and not output.quiet:
        proof = "not verified" if done.receipt is None else done.receipt.summary
        output.say(f"{'installed':<13}{done.wheel.name}")
        output.say(f"{'proof':<13}{proof}")


def interpreter(python: Path | None, env: str | None) -> Path:
    """Return the interpreter that the options mean. Raise `UsageError` when they mean none or two."""
    from provisioner.environments import store
    from provisioner.errors import UsageError

    if (python is None) == (env is None):
        raise UsageError(
            "say which Python to install beside: --python PATH or --env NAME",
            hints=["provision install --python $(which python)"],
        )
    if python is not None:
        return python
    assert env is not None
    if store.exists(env):
        return store.find(env).python
    return _conda_python(env)


def _conda_python(name: str) -> Path:
    from provisioner.errors import UsageError
    from provisioner.machine.probe import probe

    prefixes = sorted({prefix for tool in probe().conda for prefix in tool.envs})
    for prefix in prefixes:
        if Path(prefix).name == name and (Path(prefix) / "bin" / "python").exists():
            return Path(prefix) / "bin" / "python"
    known = ", ".join(Path(prefix).name for prefix in prefixes)
    raise UsageError(f"there is no environment {name!r}", hints=[f"conda has: {known}"] if known else [], code="no-environment")
