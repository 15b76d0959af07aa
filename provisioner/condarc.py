"""Where conda packages come from, by the user's own settings: ``.condarc``, its variables, and pixi's mirrors.

conda's order of files is that of its documentation, "Using the .condarc conda configuration file"; the keys are those of "Mirroring
channels" and of micromamba's ``mirrored_channels`` (read 2026-11-25).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.compat import tomllib
from provisioner.paths import NO_HOME, home_dir

CHANNEL_ALIAS = "https://conda.anaconda.org"
CONDA_FORGE = "conda-forge"


@dataclass(frozen=True, slots=True)
class CondaSettings:
    """The user's channels by name or URL (empty: not set), their places by name, and mirrors as pairs (canonical URL, mirror's URL).

    ``proxies`` are ``proxy_servers`` as pairs (scheme, URL).
    """

    channels: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()


def read_conda_settings(
    environ: Mapping[str, str] | None = None, *, home: Path | None = None, etc: Path = Path("/etc")
) -> CondaSettings:
    """Return the settings of this user. Unreadable files count as absent.

    conda-forge keeps its canonical name wherever it is fetched from; a channel of another name that ``custom_channels`` or
    ``channel_alias`` places elsewhere is that place's own. ``$NAME`` in a value is the variable's, as conda has it (24.7.1
    ``conda/base/context.py``, ``expandvars``, read 2026-11-27); values of another kind than conda's count as absent.
    """
    environ = os.environ if environ is None else environ
    home = home or home_dir() or NO_HOME
    merged: dict[str, Any] = {}
    for path in _files(environ, home, etc):
        merged |= _expanded(_yaml(path), environ)
    if named := environ.get("CONDA_CHANNELS"):
        merged["channels"] = [name.strip() for name in named.split(",")]
    alias = environ.get("CONDA_CHANNEL_ALIAS") or _text(merged.get("channel_alias"))
    alias = alias.rstrip("/")
    custom = {str(name): _text(url) for name, url in _table(merged, "custom_channels").items()}
    places = {name: f"{url.rstrip('/')}/{name}" for name, url in custom.items() if url}
    mirrors = [(f"{CHANNEL_ALIAS}/{CONDA_FORGE}", url) for url in _conda_forge(merged, alias, places)]
    if alias:
        places = {"*": alias, **places}
    mirrors += _pixi(environ, home)
    proxies = {str(scheme): _text(url) for scheme, url in _table(merged, "proxy_servers").items()}
    stated = tuple(sorted((scheme, url) for scheme, url in proxies.items() if url))
    return CondaSettings(_channels(merged), tuple(sorted(places.items())), tuple(dict.fromkeys(mirrors)), stated)


def _conda_forge(merged: Mapping[str, Any], alias: str, places: Mapping[str, str]) -> list[str]:
    """Return where conda-forge is to be fetched from, most explicit first."""
    listed = [url.rstrip("/") for url in _texts(_table(merged, "mirrored_channels").get(CONDA_FORGE))]
    stated = places.get(CONDA_FORGE)
    found = [*listed, *([stated] if stated else []), *([f"{alias}/{CONDA_FORGE}"] if alias else [])]
    return [url for url in found if url != f"{CHANNEL_ALIAS}/{CONDA_FORGE}"]


def _channels(merged: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the user's channels when conda-forge is among them: the recipes' compilers and CUDA packages are its own."""
    names = [name for name in _texts(merged.get("channels")) if name not in ("defaults", "nodefaults")]
    return tuple(names) if any(name.rstrip("/").endswith(CONDA_FORGE) for name in names) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _expanded(value: Any, environ: Mapping[str, str]) -> Any:
    """Return ``value`` with ``$NAME`` and ``${NAME}`` replaced in every text in it; unknown names stay as they are."""
    if isinstance(value, str):
        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: environ.get(match[1] or match[2], match[0]), value)
    if isinstance(value, dict):
        return {key: _expanded(item, environ) for key, item in value.items()}
    return [_expanded(item, environ) for item in value] if isinstance(value, list) else value


def _table(merged: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = merged.get(key)
    return value if isinstance(value, dict) else {}


def _files(environ: Mapping[str, str], home: Path, etc: Path) -> list[Path]:
    """Return the files that conda reads on Linux, later ones winning."""
    found = [etc / "conda" / ".condarc", etc / "conda" / "condarc"]
    if prefix := environ.get("CONDA_PREFIX"):
        found.append(Path(prefix) / ".condarc")
    found += [home / ".condarc", home / ".conda" / ".condarc", home / ".mambarc"]
    return [*found, *([Path(named)] if (named := environ.get("CONDARC")) else [])]


def _yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    import yaml

    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def _pixi(environ: Mapping[str, str], home: Path) -> list[tuple[str, str]]:
    """Return the mirrors of pixi's and rattler's configuration: ``[mirrors]``, a canonical URL with a list of others."""
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    found: list[tuple[str, str]] = []
    for path in (config / "pixi" / "config.toml", home / ".pixi" / "config.toml"):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("mirrors", {})
        except (OSError, ValueError):
            continue
        for prefix, urls in table.items() if isinstance(table, dict) else ():
            found += [(str(prefix).rstrip("/"), url.rstrip("/")) for url in _texts(urls)]
    return found
