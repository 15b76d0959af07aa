"""Where packages come from, by the user's own settings: pip's and uv's configuration for the package index.

uv reads its own settings (``UV_*``, ``uv.toml``) but none of pip's. When uv has none, pip's are translated, so that a mirror in
``pip.conf`` serves here too. pip's order of files and variables is that of pip's user guide, "Configuration" (read 2026-11-24).
"""

from __future__ import annotations

import configparser
import functools
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provisioner import download
from provisioner.compat import tomllib
from provisioner.paths import NO_HOME, home_dir

TORCH_INDEX = "https://download.pytorch.org/whl"
"""PyTorch's own indexes lie below it, one per CUDA build: ``…/cu126``, ``…/cpu`` (pytorch.org, "Get started", read 2026-11-24)."""

TORCH_INDEX_VARIABLE = "PROVISION_TORCH_INDEX"
"""Another place of all of PyTorch's indexes, as ``https://mirror.example/whl``; the lock then states its URLs."""

JETSON_INDEX = "https://pypi.jetson-ai-lab.io"
"""The community's index of builds for JetPack, one below it for each: ``…/jp6/cu126`` (its users' install lines, read 2026-11-25;
its former domain ended in ``.dev``: jetsonhacks/jetson-orin-setup#6)."""

chosen_index: ContextVar[str | None] = ContextVar("chosen_index", default=None)
"""The package index of a chosen mirror (``--mirror``), which goes before what the user's files say."""

flat_torch_index: ContextVar[bool] = ContextVar("flat_torch_index", default=False)
"""True while the chosen mirror serves PyTorch's wheels as one page of links for each CUDA, not as an index."""


@dataclass(frozen=True, slots=True)
class TorchIndex:
    """An index that serves torch's builds for one CUDA, at ``url`` for this user; ``flat`` is a page of links to all of them."""

    url: str
    canonical: str
    flat: bool = False


def torch_index(name: str) -> TorchIndex:
    """Return the index of that name (``cu126``, ``cpu``, ``jetson/jp6/cu126``, or a URL), as the user's settings and mirrors have it."""
    if "://" in name:
        return TorchIndex(name, name)
    family, _, rest = name.partition("/")
    if family == "jetson":
        url = f"{JETSON_INDEX}/{rest}"
        return TorchIndex(download.mirrored(url), url)
    if stated := os.environ.get(TORCH_INDEX_VARIABLE):
        url = f"{stated.rstrip('/')}/{name}"
        return TorchIndex(url, url)
    url = f"{TORCH_INDEX}/{name}"
    served = download.mirrored(url)
    flat = served != url and flat_torch_index.get()
    return TorchIndex(f"{served}/" if flat else served, url, flat)  # links are relative to the page, which is a folder


_UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
_UV_INDEX_KEYS = ("index", "index-url", "extra-index-url", "find-links", "no-index")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The package index as the user set it. ``default`` None is the tool's own default; ``origin`` says where it was read.

    ``options`` are the uv options that say the same and ``environment`` the variables that go with them.
    """

    origin: str = "default"
    default: str | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The URL of the index that is asked first."""
        if self.default is not None:
            return self.default
        return _default_url()

    def credentials(self, environ: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
        """Return user and password by host, as they stand in the URLs of these settings and of uv's variables."""
        environ = os.environ if environ is None else environ
        named = " ".join(environ.get(name, "") for name in _UV_INDEX_VARIABLES if name != "UV_NO_INDEX").split()
        found = {}
        for url in (self.default or "", *self.extra, *self.find_links, *named):
            parts = urlsplit(url[url.index("http") :] if "=http" in url else url)  # uv names an index as NAME=URL
            if parts.username is not None:
                found[parts.netloc.rpartition("@")[2]] = (unquote(parts.username), unquote(parts.password or ""))
        return found

    @property
    def proxies(self) -> dict[str, str]:
        """The proxy that goes with the settings, by scheme."""
        return {name.partition("_")[0].lower(): url for name, url in self.environment.items() if name.endswith("_PROXY")}

    def options(self, *, find_links: bool = True) -> list[str]:
        """Return the options for ``uv pip``; none where uv finds the settings by itself."""
        if self.origin in ("default", "uv"):
            return []
        words: list[str] = ["--no-index"] if self.no_index else []
        if self.default is not None:
            words += ["--default-index", self.default]
        for url in self.extra:
            words += ["--index", url]
        if self.extra:  # pip looks at all of its indexes and takes the best file of any
            words += ["--index-strategy", "unsafe-best-match"]
        if find_links:
            for place in self.find_links:
                words += ["--find-links", place]
        for host in self.trusted_hosts:
            words += ["--allow-insecure-host", host]
        return words


@functools.cache
def _default_url() -> str:
    """Return the default index as pypi-simple knows it, read from its source: importing it with its parsers takes half a second."""
    import importlib.util

    spec = importlib.util.find_spec("pypi_simple")
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    if match := re.search(r"""^PYPI_SIMPLE_ENDPOINT\b[^=\n]*=\s*["'](https?://[^"']+)["']""", source, re.MULTILINE):
        return match[1]
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return str(PYPI_SIMPLE_ENDPOINT)


def read_index_settings(
    environ: Mapping[str, str] | None = None, *, home: Path | None = None, etc: Path = Path("/etc")
) -> IndexSettings:
    """Return the index settings of this user; unreadable files count as absent, as they do for pip."""
    environ = os.environ if environ is None else environ
    home = home or home_dir() or NO_HOME
    if (mirror := chosen_index.get()) is not None:
        return IndexSettings("mirror", mirror)
    uv_default = _uv_setting(environ, home, etc)
    if uv_default is not None:
        return uv_default
    values = _pip_values(environ, home, etc)
    if not values:
        return IndexSettings()
    environment = {}
    if cert := values.get("cert"):
        environment["SSL_CERT_FILE"] = cert
    if proxy := values.get("proxy"):
        environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    return IndexSettings(
        origin="pip",
        default=values.get("index-url"),
        extra=tuple(values.get("extra-index-url", "").split()),
        find_links=tuple(values.get("find-links", "").split()),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        no_index=values.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        environment=environment,
    )


def settings_files(environ: Mapping[str, str] | None = None, *, home: Path | None = None, etc: Path = Path("/etc")) -> list[Path]:
    """Return the files that uv itself reads its settings from, the winning one first, whether or not they exist."""
    environ = os.environ if environ is None else environ
    home = home or home_dir() or NO_HOME
    if named := environ.get("UV_CONFIG_FILE"):
        return [Path(named)]
    return [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv" / "uv.toml", etc / "uv" / "uv.toml"]


def _uv_setting(environ: Mapping[str, str], home: Path, etc: Path) -> IndexSettings | None:
    """Return settings that uv itself will read, so that messages can name the index; None when uv has none."""
    if any(environ.get(name) for name in _UV_INDEX_VARIABLES):
        return IndexSettings("uv", environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or None)
    for path in settings_files(environ, home=home, etc=etc):
        try:
            data = tomllib.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if any(key in data or key in data.get("pip", {}) for key in _UV_INDEX_KEYS):
            default = next((row["url"] for row in data.get("index", []) if row.get("default") and "url" in row), None)
            return IndexSettings("uv", default or data.get("index-url") or data.get("pip", {}).get("index-url"))
    return None


def _pip_values(environ: Mapping[str, str], home: Path, etc: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for path in _pip_files(environ, home, etc):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                values |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            values[name[4:].lower().replace("_", "-")] = value
    relevant = {"index-url", "extra-index-url", "find-links", "trusted-host", "no-index", "cert", "proxy"}
    return {key: value for key, value in values.items() if key in relevant}


def _pip_files(environ: Mapping[str, str], home: Path, etc: Path) -> list[Path]:
    """Return pip's configuration files, later ones winning: site-wide, user's, the one named by PIP_CONFIG_FILE."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    shared = [Path(place) / "pip" / "pip.conf" for place in environ.get("XDG_CONFIG_DIRS", str(etc / "xdg")).split(":") if place]
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    user = [home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    return [*shared, etc / "pip.conf", *user, *([Path(named)] if named else [])]
