"""``provision build``: one flash-attn wheel for one interpreter, from source."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from provisioner.cli.options import python_option, speaking
from provisioner.cli.sources import mirroring

if TYPE_CHECKING:
    from provisioner.building.build import BuildOrder, BuiltWheel, Prepared
    from provisioner.building.schedule import Forecast
    from provisioner.cli.console import Output
    from provisioner.planning.values import KernelSelection

NEWEST = "2.8.3.post2"
CONFIG_HINTS = ("give the config.json of a model, as its repository on the Hugging Face hub has it",)


def _words(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split ``64,128`` and repeated options alike."""
    return tuple(word for value in values for word in value.replace(",", " ").split())


def _numbers(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    words = _words(context, parameter, values)
    if bad := [word for word in words if not (word.isascii() and word.isdigit())]:
        raise click.BadParameter(f"{bad[0]!r} is not a head dim")
    return tuple(int(word) for word in words)


@click.command(short_help="Compile flash-attn from source into a wheel.")
@click.option("--version", "version", metavar="VERSION", help=f"The flash-attn release to build (default: {NEWEST}).")
@click.option(
    "--source",
    metavar="DIR|FILE|URL",
    help="Another source tree: a folder, an archive, or a URL (with --sha256). Its own setup.py is run.",
)
@click.option("--sha256", metavar="SHA256", help="The hash of --source.")
@click.option(
    "--adapter",
    type=click.Choice(["aten", "turing109"]),
    help="flash-attn 2's functions for GPUs that it has no kernels for: over PyTorch's kernels, or with Turing's of 1.0.9 compiled in.",
)
@click.option("--base-version", metavar="VERSION", help="The flash-attn 2 that --adapter stands for (default: 2.8.3).")
@click.option(
    "--arch",
    "archs",
    metavar="sm_XX",
    multiple=True,
    callback=_words,
    help="sm_90 (binary) or compute_75 (PTX); repeatable. Default: this machine's GPUs.",
)
@click.option(
    "--kernels",
    type=click.Choice(["full", "unsloth"]),
    help="A kernel set: upstream's, or what Unsloth's models use (the default).",
)
@click.option("--head-dims", multiple=True, callback=_numbers, metavar="N,N", help="Head dims, such as 64,128.")
@click.option("--dtypes", multiple=True, callback=_words, metavar="T,T", help="fp16, bf16.")
@click.option(
    "--features",
    metavar="F,F",
    multiple=True,
    callback=_words,
    help="backward, varlen, local, softcap, uneven, dropout, alibi, kvcache.",
)
@click.option(
    "--for-model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Take what a model's config.json needs."
)
@python_option("The interpreter with the torch to build for")
@click.option(
    "--cuda-home", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR", help="The CUDA toolkit to use."
)
@click.option("--fetch-compiler", is_flag=True, help="Take the CUDA 13 compiler from the package index.")
@click.option("--cxx", metavar="PATH", help="The C++ compiler to use.")
@click.option("--index-url", metavar="URL", help="The package index that has the sdist.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), metavar="N", help="At most so many units at once (fewer when memory is short)."
)
@click.option("--dry-run", is_flag=True, help="Print what would be compiled and what it costs; compile nothing.")
@click.option("--output-dir", "-o", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Copy the wheel there.")
@mirroring
@speaking
def command(*, output: Output, offline: bool, yes: bool, dry_run: bool, output_dir: Path | None, **options: Any) -> None:
    """Compile flash-attn for the torch of one interpreter: only the architectures and kernels asked for, never twice.

    What is left out raises an error at run time that names the rebuild command. An interrupted build continues.
    """
    _check_together(options)
    if options["adapter"]:
        _build_adapter(output, options, output_dir, dry_run=dry_run)
        return
    if options["source"]:
        _build_tree(output, options, output_dir, dry_run=dry_run)
        return
    from provisioner.building.build import build_flash_attn, forecast_build, prepare

    order = _order(options)
    if dry_run:
        prepared = prepare(order)
        _show_forecast(output, prepared, forecast_build(prepared))
        return

    def describe(built: BuiltWheel, _: Path) -> str:
        took = f"{len(built.compiled)} compiles, {built.seconds:.0f} s, {built.peak_mib / 1024:.1f} GiB at most"
        return f"flash-attn {built.version} for {', '.join(built.archs)} ({'was in the wheelhouse' if built.reused else took})"

    _deliver(output, lambda: build_flash_attn(order), output_dir, describe)


def _check_together(options: dict[str, Any]) -> None:
    """Raise `UsageError` for an option that would be ignored for want of another."""
    from provisioner.errors import UsageError

    for name, wanted in (("sha256", "source"), ("base_version", "adapter")):
        if options[name] and not options[wanted]:
            raise UsageError(
                f"--{name.replace('_', '-')} has no meaning without --{wanted}",
                hints=[f"add --{wanted}", f"or leave --{name.replace('_', '-')} out"],
            )
    if options["cuda_home"] and options["fetch_compiler"]:
        raise UsageError("--cuda-home and --fetch-compiler exclude each other", hints=["leave one of them out"])


def _deliver(
    output: Output, make: Callable[[], BuiltWheel], output_dir: Path | None, describe: Callable[[BuiltWheel, Path], str]
) -> None:
    """Build, copy the wheel to where it is wanted, and print its path and description or the JSON document."""
    import dataclasses

    with output.progress():
        built = make()
    wheel = _copied(built.path, output_dir)
    if output.as_json:
        fields = {field.name: getattr(built, field.name) for field in dataclasses.fields(built)}
        output.document(build={**fields, "path": str(wheel)})
    else:
        output.say(f"{wheel}\n{describe(built, wheel)}")


def _order(options: dict[str, Any]) -> BuildOrder:
    from provisioner.building.build import BuildOrder

    return BuildOrder(
        python=_python(options["python"]),
        archs=options["archs"] or _archs_here(),
        version=options["version"] or NEWEST,
        kernels=_kernels(options),
        cuda_root=_cuda_root(options),
        cxx=options["cxx"],
        jobs=options["jobs"],
        index_url=options["index_url"],
    )


def _kernels(options: dict[str, Any]) -> KernelSelection:
    from provisioner.building.releases import find_release
    from provisioner.building.selection import choose, for_model, preset
    from provisioner.errors import UsageError

    release = find_release(options["version"] or NEWEST)
    if options["for_model"]:
        if options["kernels"]:
            raise UsageError("--for-model and --kernels exclude each other", hints=["leave one of them out"])
        import json

        try:
            config = json.loads(options["for_model"].read_text())
        except ValueError as error:
            raise UsageError(f"{options['for_model']} is not JSON", why=str(error), hints=CONFIG_HINTS) from error
        if not isinstance(config, dict):
            raise UsageError(f"{options['for_model']} is not a model's config.json", hints=CONFIG_HINTS)
        base = for_model(config)
    else:
        base = preset(options["kernels"] or "unsloth", release)
    return choose(release, base, head_dims=options["head_dims"], dtypes=options["dtypes"], features=options["features"])


def _python(named: Path | None) -> Path:
    """Return the interpreter: the named one, the active environment's, or the one that runs this."""
    if named:
        return named
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        active = Path(os.environ.get(variable, "")) / "bin" / "python"
        if os.environ.get(variable) and active.exists():
            return active
    return Path(sys.executable)


def _cuda_root(options: dict[str, Any]) -> Path | None:
    named: Path | None = options["cuda_home"]
    if named or not options["fetch_compiler"]:
        return named
    from provisioner.building.target import read_target
    from provisioner.building.toolchain import install_wheels
    from provisioner.indexes import IndexSettings, read_index_settings

    settings = IndexSettings("pip", options["index_url"]) if options["index_url"] else read_index_settings()
    return install_wheels(read_target(_python(options["python"])).torch.cuda or "0.0", settings)


def _archs_here() -> tuple[str, ...]:
    """Return the architectures of this machine's GPUs. Raise `UsageError` when there is none."""
    from provisioner.errors import UsageError
    from provisioner.machine.probe import probe

    capabilities = {gpu.capability for gpu in probe().gpus}
    archs = tuple(capability.sm for capability in sorted(found for found in capabilities if found))
    if not archs:
        raise UsageError("this machine has no NVIDIA GPU to build for", hints=["name one: --arch sm_90"], code="no-arch")
    return archs


def _show_forecast(output: Output, prepared: Prepared, forecast: Forecast) -> None:
    from provisioner.building.wheelhouse import Wheelhouse

    entry = Wheelhouse().find(prepared.digest)
    if output.as_json:
        units = [
            {"name": unit.name, "seconds": unit.cost.seconds, "peak_mib": unit.cost.peak_mib} for unit in prepared.graph.units
        ]
        output.document(
            forecast=forecast,
            units=units,
            version=prepared.version,
            key=prepared.digest,
            patches=prepared.patches,
            stubs=len(prepared.selection.stubbed),
            in_wheelhouse=str(entry.path) if entry else None,
        )
        return
    output.say(f"flash-attn {prepared.version} for {', '.join(prepared.key.archs)}, torch {prepared.target.torch.version}")
    output.say(f"CUDA {prepared.toolchain.version} at {prepared.toolchain.root}, {prepared.key.host_compiler}")
    for unit in prepared.graph.units:
        output.say(f"  {unit.cost.seconds:6.0f} CPU-s  {unit.cost.peak_mib / 1024:4.1f} GiB  {unit.name}")
    output.say(
        f"{forecast.units} units, {len(prepared.selection.stubbed)} kernels as stubs, {forecast.cpu_seconds / 60:.0f} CPU-minutes"
    )
    output.say(
        f"{forecast.jobs.total} at once: about {forecast.wall_seconds / 60:.0f} min, {forecast.peak_mib / 1024:.1f} GiB at most, "
        f"{forecast.temporary_mib / 1024:.1f} GiB of disk"
    )
    if entry:
        output.say(f"nothing would be compiled: the wheelhouse has it, {entry.path}")


def _show_nothing_known(output: Output, text: str, *, units: int | None) -> None:
    """Answer ``--dry-run`` where there is no graph: ``units`` 0 means that nothing is compiled, None that it cannot be told."""
    if output.as_json:
        output.document(forecast=None, units=[] if units == 0 else None, note=text)
    else:
        output.say(text)


def _copied(wheel: Path, folder: Path | None) -> Path:
    if folder is None:
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{wheel.name}.partial"
    try:
        shutil.copyfile(wheel, partial)
        os.replace(partial, folder / wheel.name)
    finally:
        partial.unlink(missing_ok=True)  # there only where the copy failed
    return folder / wheel.name


def _build_adapter(output: Output, options: dict[str, Any], output_dir: Path | None, *, dry_run: bool) -> None:
    from provisioner.adapter.wheel import make_adapter, prepare_kernels
    from provisioner.building.build import forecast_build
    from provisioner.cli.build_adapter import adapter_order

    compiles = options["adapter"] == "turing109"
    order = adapter_order(options, _python(options["python"]), _cuda_root(options) if compiles else None)
    if dry_run:
        prepared = prepare_kernels(order)
        if prepared is None:
            _show_nothing_known(output, f"flash-attn {order.version}: nothing is compiled, PyTorch's kernels are called", units=0)
        else:
            _show_forecast(output, prepared, forecast_build(prepared))
        return

    def describe(built: BuiltWheel, _: Path) -> str:
        turing = f"the kernels of flash-attn 1.0.9 for {', '.join(built.archs)}, PyTorch's beside them"
        kernels = turing if compiles else "PyTorch's kernels"
        return f"flash-attn {built.version}: flash-attn 2's functions over {kernels}"

    _deliver(output, lambda: make_adapter(order), output_dir, describe)


def _build_tree(output: Output, options: dict[str, Any], output_dir: Path | None, *, dry_run: bool) -> None:
    from provisioner.building.foreign import TreeOrder, build_tree
    from provisioner.building.sources import NamedTree, check_named
    from provisioner.errors import UsageError

    if not options["archs"]:
        raise UsageError("--source needs --arch", hints=["provision build --source … --arch sm_70"], code="no-arch")
    for name in ("version", "kernels", "head_dims", "dtypes", "features", "for_model", "index_url"):
        if options[name] and not (name == "index_url" and options["fetch_compiler"]):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} has no meaning for a named source",
                why="its own setup.py decides what is compiled",
                hints=[f"leave {option} out", "or leave --source out: releases are compiled kernel by kernel"],
            )
    order = TreeOrder(
        source=NamedTree(options["source"], options["sha256"]),
        python=_python(options["python"]),
        archs=options["archs"],
        cuda_root=_cuda_root(options),
        cxx=options["cxx"],
        jobs=options["jobs"],
    )
    check_named(order.source)
    if dry_run:
        _show_nothing_known(output, "a named source is built by its own setup.py; its units are not known beforehand", units=None)
        return

    def describe(_: BuiltWheel, wheel: Path) -> str:
        return f"nothing is promised about this tree: `provision inspect {shlex.quote(str(wheel))}` shows what it holds"

    _deliver(output, lambda: build_tree(order), output_dir, describe)
