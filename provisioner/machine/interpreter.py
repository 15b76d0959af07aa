"""What is installed for one interpreter, read from files alone: nothing of it is imported or run.

`import torch` takes seconds, may crash, and may hang on a broken driver; its version, CUDA and ABI stand in files.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.machine.facts import Machine, Software
from provisioner.machine.system import LiveSystem, System, home_of, which
from provisioner.torch_version import parse_torch_version

PACKAGES = {
    # field of Software: names of the installed distributions, in their normalised file form
    "flash_attn": ("flash_attn",),
    "xformers": ("xformers",),
    "triton": ("triton", "pytorch_triton", "triton_windows"),
    "bitsandbytes": ("bitsandbytes",),
    "unsloth": ("unsloth",),
    "transformers": ("transformers",),
    "trl": ("trl",),
}

HINT = "give --python PATH: an environment's bin/python or its folder"
"""What helps where no interpreter is found."""

_METADATA_VERSION = re.compile(r"^Version: *(\S{1,80}) *\r?$", re.MULTILINE)
_PYVENV = re.compile(r"^(home|version|version_info|include-system-site-packages) *= *(.*?) *\r?$", re.MULTILINE)
_PY_VERSION = re.compile(r'#define PY_VERSION\s+"(3\.\d{1,2}\.\d{1,3}[a-z0-9+]{0,8})"')
_NAMED_VERSION = re.compile(r"(3\.\d{1,2}\.\d{1,3})")
_EXECUTABLE = re.compile(r"python(3\.\d{1,2})[a-z]?$")

_ERROR_CONSTRUCTOR = rb"_ZN3c105ErrorC[12]ENS_14SourceLocationE(Ss|NSt7__cxx1112basic_string)"
"""c10::Error's constructor takes a std::string: its mangled name tells which of the two ABIs torch was built with."""


def facts(system: System, known: Machine, python: str | None = None) -> Machine:
    """Return the software of ``python``, or of the interpreter that the user's shell would start."""
    chosen = python or default_python(system)
    return Machine(software=software_of(system, chosen)) if chosen else Machine()


def default_python(system: System) -> str | None:
    """Return the active environment's interpreter, else the PATH's; a pyenv shim is followed to what it stands for."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        path = f"{system.environ.get(variable, '')}/bin/python"
        if path.startswith("/") and path != "/bin/python" and system.exists(path):
            return path
    found = which(system, "python3") or which(system, "python")
    return _behind_shim(system, found) if found and "/shims/" in found else found


def named_python(named: Path) -> Path:
    """Return the absolute path of the interpreter that ``named`` means: a program, a command on PATH, or an environment's folder.

    Whether anything is there is not asked. A pyenv shim is followed to what it stands for. Links are kept: a venv's interpreter is one, and its own path makes it the venv's.
    """
    if named.is_dir():
        return named.absolute() / "bin" / "python"
    command = shutil.which(named) if len(named.parts) == 1 and not named.exists() else None
    if command and "/shims/" in command:
        command = _behind_shim(LiveSystem(), command) or command
    return Path(command or named).absolute()


def existing_python(named: Path) -> Path:
    """Return what `named_python` does. Raise `UsageError` where no program is there."""
    found = named_python(named)
    if not found.is_file():
        raise UsageError(f"no interpreter at {found}", hints=[HINT], code="no-interpreter")
    if not os.access(found, os.X_OK):
        raise UsageError(f"{found} may not be executed", hints=[HINT], code="no-interpreter")
    return found


def pyenv_root(system: System) -> str:
    """Return where pyenv keeps its versions, whether or not it is installed."""
    return system.environ.get("PYENV_ROOT") or f"{home_of(system)}/.pyenv"


def _behind_shim(system: System, shim: str) -> str | None:
    root = pyenv_root(system)
    chosen = system.environ.get("PYENV_VERSION") or system.read(f"{root}/version") or ""
    for name in re.split(r"[:\s]+", chosen):
        path = f"{root}/versions/{name}/bin/python"
        if name and system.exists(path):
            return path
    return None


def software_of(system: System, python: str) -> Software:
    """Return the software of the interpreter at the path ``python`` on ``system``."""
    sites = site_directories(system, python)
    torch = _torch_directory(system, sites)
    stated = parse_torch_version((system.read(f"{torch}/version.py") if torch else None) or "")
    versions = {name: _first_version(system, sites, names) for name, names in PACKAGES.items()}
    return Software(
        python=python_version(system, python),
        torch=stated.version or _first_version(system, sites, ("torch",)),
        torch_cuda=stated.cuda,
        torch_cxx11_abi=torch_abi(system, torch, stated.version) if torch else None,
        **versions,
    )


def prefix_of(system: System, python: str) -> str:
    """Return the prefix of an interpreter: a virtual environment's own, else that of the real file behind the links."""
    prefix = os.path.dirname(os.path.dirname(python))
    if system.exists(f"{prefix}/pyvenv.cfg"):
        return prefix
    return os.path.dirname(os.path.dirname(system.realpath(python)))


def python_version(system: System, python: str) -> str | None:
    """Return ``3.12.3``, or ``3.12`` where no file states the patch release, or None."""
    prefix = prefix_of(system, python)
    config = dict(_PYVENV.findall(system.read(f"{prefix}/pyvenv.cfg") or ""))
    if match := _NAMED_VERSION.match(config.get("version_info") or config.get("version") or ""):
        return match[1]
    for path in system.glob(f"{prefix}/conda-meta", "python-3.*.json"):
        if match := _NAMED_VERSION.match(os.path.basename(path).removeprefix("python-")):
            return match[1]
    minor = _minor(system, prefix, python)
    if minor is None:
        return None
    if match := _PY_VERSION.search(system.read(f"{prefix}/include/python{minor}/patchlevel.h") or ""):
        return match[1]
    named = _NAMED_VERSION.search(os.path.basename(prefix))
    return named[1] if named else _version_in_binary(system, prefix, python, minor) or minor


def _minor(system: System, prefix: str, python: str) -> str | None:
    """Return ``3.12`` from the real file's name, else from the one library directory."""
    if match := _EXECUTABLE.match(os.path.basename(system.realpath(python))):
        return match[1]
    libraries = [os.path.basename(path)[len("python") :] for path in system.glob(f"{prefix}/lib", "python3.*")]
    return libraries[0] if len(libraries) == 1 and re.fullmatch(r"3\.\d{1,2}", libraries[0]) else None


def _version_in_binary(system: System, prefix: str, python: str, minor: str) -> str | None:
    start = re.escape(f"{minor}.")  # a pattern that starts with plain text is searched for a dozen times faster
    pattern = rf"({start}(?<![\d.]{start})\d{{1,3}}(?:(?:a|b|rc)\d{{1,2}})?)\+?[\x00\n]".encode()
    machine = system.kernel().machine or "x86_64"
    places = (
        system.realpath(python),
        *(f"{prefix}/{lib}/libpython{minor}.so.1.0" for lib in ("lib", "lib64", f"lib/{machine}-linux-gnu")),
    )
    return next((version for place in places if (version := system.search(place, pattern))), None)


def site_directories(system: System, python: str) -> tuple[str, ...]:
    """Return where the interpreter finds packages, first found first: PYTHONPATH, its site, the user's, Debian's."""
    prefix = prefix_of(system, python)
    extra = [entry for entry in system.environ.get("PYTHONPATH", "").split(":") if entry.startswith("/")]
    config = dict(_PYVENV.findall(system.read(f"{prefix}/pyvenv.cfg") or ""))
    sites = [*extra, *_sites_under(system, prefix)]
    if not config:
        sites += _system_sites(system, prefix, python)
    elif config.get("include-system-site-packages", "").lower() == "true" and config.get("home", "").startswith("/"):
        base = os.path.dirname(config["home"])
        sites += [*_sites_under(system, base), *_system_sites(system, base, python)]
    return tuple(dict.fromkeys(sites))


def _sites_under(system: System, prefix: str) -> list[str]:
    libraries = (*system.glob(f"{prefix}/lib", "python3.*"), *system.glob(f"{prefix}/lib64", "python3.*"))
    return [f"{library}/site-packages" for library in libraries if system.exists(f"{library}/site-packages")]


def _system_sites(system: System, prefix: str, python: str) -> list[str]:
    minor = _minor(system, prefix, python)
    if minor is None:
        return []
    sites = [f"{home_of(system)}/.local/lib/python{minor}/site-packages"]
    if prefix == "/usr":
        sites += [f"/usr/local/lib/python{minor}/dist-packages", f"/usr/local/lib/python{minor}/site-packages"]
        sites += ["/usr/lib/python3/dist-packages"]
    return [site for site in sites if system.exists(site)]


def _first_version(system: System, sites: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """Return the version of the first distribution of these names that any site holds."""
    return next((found for site in sites for name in names if (found := installed_version(system, site, name))), None)


def installed_version(system: System, site: str, name: str) -> str | None:
    """Return the version of the distribution ``name`` in ``site``, from its metadata, else from its directory's name."""
    for path in (*system.glob(site, f"{name}-*.dist-info"), *system.glob(site, f"{name}-*.egg*")):
        named = os.path.basename(path).removeprefix(f"{name}-")
        named = re.sub(r"(-py3.*)?\.(dist-info|egg-info|egg)$", "", named)
        for metadata in ("METADATA", "PKG-INFO", "EGG-INFO/PKG-INFO"):
            if match := _METADATA_VERSION.search((system.read(f"{path}/{metadata}") or "")[:8192]):
                return match[1]
        if re.fullmatch(r"\d[\w.+!]{0,60}", named):
            return named
    return None


def _torch_directory(system: System, sites: tuple[str, ...]) -> str | None:
    return next((f"{site}/torch" for site in sites if system.exists(f"{site}/torch/version.py")), None)


def torch_abi(system: System, directory: str, version: str | None) -> bool | None:
    """Say whether a torch uses the C++11 ABI, None where that cannot be told.

    Its smallest library tells. Without that symbol the release decides: official Linux x86_64 builds went to the new
    ABI with 2.7 (and with 2.6 for cu126 alone); before 2.6 they had the old one (flash-attention#1644, pytorch#152790).
    """
    symbol = system.search(f"{directory}/lib/libc10.so", _ERROR_CONSTRUCTOR)
    if symbol is not None:
        return symbol != "Ss"
    match = re.match(r"(\d+)\.(\d+)\.\d+(?:\+(cpu|cu\d+))?$", version or "")
    if match is None or system.kernel().machine != "x86_64":
        return None
    release = (int(match[1]), int(match[2]))
    if release == (2, 6):
        return {"cu126": True, "cu124": False, "cu118": False}.get(match[3])
    return release > (2, 6)
