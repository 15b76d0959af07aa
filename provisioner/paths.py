"""Where things lie on disk, and writing there without ever leaving half a file.

Every root can be moved by one environment variable: ``PROVISION_DATA_DIR``, ``PROVISION_CACHE_DIR``,
``PROVISION_ENVS_DIR``, ``PROVISION_WHEELHOUSE``. The defaults are the XDG directories (platformdirs).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

XDG_PLATFORMS = ("linux",)
NO_HOME = Path("/nonexistent")
"""Where the settings of a user without a home would lie; Debian's policy manual gives such users this one (9.2.3, read 2026-11-27)."""


def _root(variable: str, default: Callable[[], Path]) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else default()


def _user_dir(kind: str) -> Path:
    """Return the user's directory for our ``data`` or ``cache``, where platformdirs has it.

    On Linux that is the XDG base directory specification's, stated here: platformdirs 4.14 imports tempfile, and with it the
    archive formats, which takes a tenth of the time of `detect` (measured 2026-11-25).
    """
    if sys.platform in XDG_PLATFORMS:
        variable, default = {"data": ("XDG_DATA_HOME", ".local/share"), "cache": ("XDG_CACHE_HOME", ".cache")}[kind]
        chosen = Path(os.environ.get(variable, ""))
        return (chosen if chosen.is_absolute() else _home_for(kind) / default) / "provision"
    import platformdirs

    named = platformdirs.user_data_dir if kind == "data" else platformdirs.user_cache_dir
    return Path(named("provision", appauthor=False))


def home_dir() -> Path | None:
    """Return the user's home; None for one that neither ``HOME`` nor the user database names (a container's numeric user, say)."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where the user has none
    return Path(home) if home.startswith("/") else None


def _home_for(kind: str) -> Path:
    from provisioner.errors import UsageError

    home = home_dir()
    if home is None:
        raise UsageError(
            f"there is no place for this user's {kind}: HOME is not set, and the user database does not know the user",
            hints=["export HOME=/a/folder/of/yours", "or name both: PROVISION_DATA_DIR and PROVISION_CACHE_DIR"],
            code="no-home",
        )
    return home


def data_dir() -> Path:
    """The directory of what must be kept: generations and environments of the venv backend."""
    return _root("PROVISION_DATA_DIR", lambda: _user_dir("data"))


def cache_dir() -> Path:
    """The directory of what can be fetched or built again."""
    return _root("PROVISION_CACHE_DIR", lambda: _user_dir("cache"))


def envs_dir() -> Path:
    """The directory of the links ``NAME`` → generation."""
    return _root("PROVISION_ENVS_DIR", lambda: data_dir() / "envs")


def generations_dir() -> Path:
    """The directory of the generations; kept short, since prefixes are written into scripts and binaries."""
    return data_dir() / "g"


def wheelhouse_dir() -> Path:
    """The content-addressed store of wheels built here; may lie on a shared file system."""
    return _root("PROVISION_WHEELHOUSE", lambda: cache_dir() / "wheelhouse")


def refuses(error: OSError) -> bool:
    """Say whether the file system itself refused: it is full, read-only, or somebody else's."""
    import errno

    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def write_atomic(path: Path, data: str | bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the whole new one (temp, fsync, rename).

    A link keeps leading where it leads. A device or a pipe such as ``/dev/stdout`` is written to, never replaced.
    Raise `OSError` that names ``path`` when it cannot be written; nothing is left behind then.
    """
    import tempfile

    content = data.encode() if isinstance(data, str) else data
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_writable(path: Path) -> None:
    """Raise `OSError` that names the place when a file ``path`` could not be written: asked before work that takes long."""
    import errno

    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not path.exists() and not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def replace_symlink(link: Path, target: Path) -> None:
    """Point ``link`` at ``target`` in one step: there is no moment without a valid link."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    os.replace(temporary, link)


@contextmanager
def scratch_dir(purpose: str) -> Iterator[Path]:
    """Yield a temporary directory whose path has neither spaces nor non-ASCII letters; removed afterwards.

    Compilers, ninja and libtool split unquoted paths; ``TMPDIR`` is used when its path is plain, else ``/tmp``.
    """
    import tempfile

    base: str | None = tempfile.gettempdir()
    if base is not None and (not base.isascii() or " " in base):
        base = "/tmp"
    with tempfile.TemporaryDirectory(prefix=f"provision-{purpose}-", dir=base) as name:
        yield Path(name)
