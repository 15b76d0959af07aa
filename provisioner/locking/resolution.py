"""One resolution of package-index requirements by uv: what is asked, the run, its answer kept for a short while, and what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from provisioner import download, paths, process
from provisioner.compat import tomllib
from provisioner.errors import NoRoute, SourceUnreachable, UsageError, full_disk, says_full
from provisioner.indexes import IndexSettings, settings_files
from provisioner.kept_answers import kept
from provisioner.locking.wheel_choice import Target
from provisioner.uv import glibc_platform, run_uv, says_unreachable, uv_program

RESOLVE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that a resolution depends on, apart from what the indexes serve.

    ``previous`` are versions to keep where they can stay (name → version), ``moving`` names of which no version is kept. ``index_url``
    is the only source of the packages in ``from_index``; a ``flat`` one is a page of links.
    """

    requirements: tuple[str, ...]
    target: Target
    settings: IndexSettings
    exclude_newer: datetime | None = None
    find_links: bool = True
    index_url: str | None = None
    from_index: tuple[str, ...] = ()
    flat: bool = False
    previous: dict[str, str] = field(default_factory=dict)
    moving: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The chosen packages as rows of ``pylock.toml``, and what each requires (names to names)."""

    packages: list[dict[str, Any]]
    requires: dict[str, list[str]]


def answer(question: Question) -> Answer:
    """Return what uv chooses, or chose for the same question a short while ago (`provisioner.kept_answers`).

    Raise `NoRoute` with uv's own explanation when the requirements cannot be satisfied together, `SourceUnreachable` when an index
    does not answer.
    """
    place = paths.cache_dir() / "resolutions" / f"{_key(question)}.json"
    if (text := kept(place)) is None:
        text = json.dumps(_asked(question), default=str)
        paths.write_atomic(place, text)
    found = json.loads(text)
    return Answer(found["packages"], found["requires"])


def _key(question: Question) -> str:
    """Return the digest of the question: the uv program and its settings, and what lies in local folders of packages, count too."""
    settings = question.settings
    program = uv_program().stat()
    places = [*settings.find_links, *settings.extra, settings.default or "", question.index_url or ""]
    parts = {
        "uv": [program.st_size, program.st_mtime_ns],
        "question": [repr(getattr(question, name)) for name in question.__slots__ if name != "settings"],
        "settings": [settings.options(find_links=question.find_links), settings.default, sorted(settings.environment.items())],
        "variables": sorted((name, value) for name, value in os.environ.items() if name.startswith("UV_")),
        "files": [path.read_text(errors="replace") for path in settings_files() if path.is_file()],
        "local": [_listing(place) for place in places if place],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _listing(place: str) -> list[tuple[str, int, int]]:
    """Return what lies in a local folder of packages (empty for a URL of another host): name, size, time of change."""
    parts = urlsplit(place)
    if parts.scheme not in ("", "file"):
        return []
    found = sorted(Path(unquote(parts.path)).rglob("*"))[:20_000]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path in found for stat in (path.lstat(),)]


def _asked(question: Question) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="provision-lock-") as name:
        folder = Path(name)
        output = folder / "pylock.toml"
        wanted = _write_project(folder, question)
        if question.previous:
            output.write_text(_preferences(question.previous))
        words: list[str | Path] = [
            wanted,
            *_options(question),
            "--no-header",
            "--generate-hashes",
            "--format",
            "pylock.toml",
            "-o",
            output,
        ]
        words += [word for name in question.moving for word in ("--upgrade-package", name)]
        _succeeded(_compile(words, question), question)
        packages = tomllib.loads(output.read_text()).get("packages", [])
        chosen = {row["name"]: row["version"] for row in packages if "version" in row}
        return {"packages": packages, "requires": _requires(folder, question, wanted, chosen)}


def _requires(folder: Path, question: Question, wanted: Path, chosen: dict[str, str]) -> dict[str, list[str]]:
    """Return who requires whom among the chosen, by uv's annotations; everything that they need is in its cache by now.

    The pins are literal (``===``): ``==2.7.1`` admits ``2.7.1+cpu``, which sorts above it (PEP 440).
    """
    pins = folder / "chosen.txt"
    pins.write_text("".join(f"{name}==={version}\n" for name, version in chosen.items()))
    words: list[str | Path] = [wanted, "-c", pins, *_options(question), "--no-header", "--annotation-style", "line"]
    result = _compile([*words, "--offline"], question)
    if not result.ok and not download.offline.get():
        result = _compile(words, question)
    _succeeded(result, question)
    return read_annotations(result.out)


_ANNOTATED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:==|@)[^#]*#\s*via (?P<by>.*)$", re.MULTILINE)


def read_annotations(text: str) -> dict[str, list[str]]:
    """Return what each package requires, from lines such as ``numpy==2.4.0  # via scipy, torch``."""
    requires: dict[str, set[str]] = {}
    for match in _ANNOTATED.finditer(text):
        for by in match["by"].split(","):
            name = by.strip().partition("[")[0]
            if name and " " not in name and not name.startswith("-"):
                requires.setdefault(name, set()).add(match["name"])
    return {name: sorted(needed) for name, needed in sorted(requires.items())}


def _options(question: Question) -> list[str]:
    target = question.target
    # The interpreter is named, or uv looks for one of the target's version and tries to download it.
    options = ["--python", sys.executable, "--no-python-downloads", "--quiet", "--no-build"]
    options += ["--python-version", target.python, "--python-platform", glibc_platform(target.machine, target.glibc)]
    options += question.settings.options(find_links=question.find_links)
    if question.exclude_newer is not None:
        options += ["--exclude-newer", question.exclude_newer.isoformat()]
    return options


def _compile(words: Sequence[str | os.PathLike[str]], question: Question) -> process.Result:
    return run_uv(["pip", "compile", *words], settings=question.settings, timeout=RESOLVE_SECONDS)


def _write_project(folder: Path, question: Question) -> Path:
    """Write what is wanted as a project: only a project can say that some packages come from one index and no other."""
    lines = ["[project]", 'name = "this-plan"', 'version = "0"', f"dependencies = {json.dumps(list(question.requirements))}"]
    if question.index_url is not None:
        lines += ["[tool.uv.sources]", *(f'{name} = {{ index = "chosen" }}' for name in question.from_index)]
        lines += ["[[tool.uv.index]]", 'name = "chosen"', f"url = {json.dumps(question.index_url)}", "explicit = true"]
        lines += ['format = "flat"'] if question.flat else []
    path = folder / "pyproject.toml"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _preferences(versions: dict[str, str]) -> str:
    """Return an earlier answer in the form in which uv takes it as what to keep."""
    rows = (f"[[packages]]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\n" for name, version in versions.items())
    return 'lock-version = "1.0"\ncreated-by = "uv"\n' + "".join(rows)


_UNSOLVABLE = re.compile(r"no solution found|unsatisfiable|conflicting (?:urls|requirements)", re.IGNORECASE)
_SETTING = re.compile(
    r"^error: (?:File not found: |Couldn't parse requirement in |Failed to parse environment variable |invalid value )",
    re.MULTILINE,
)
"""uv 0.13's words for a variable or a constraints file of the user's that it cannot use (each tried, 2026-11-27)."""

_FOREIGN_HINT = re.compile(
    r"^hint: .*(?:exclude-newer-package|--prerelease|--python-version|--no-build).*(?:\n(?!\n).*)*\n?", re.MULTILINE
)
"""uv's advice that names options of its own, which do nothing here."""
_HEADING = re.compile(r"\A(?:error|\W*): ?No solution found[^\n]*\n\s*(?:cause|caused by|╰─▶):?\s*", re.IGNORECASE)
"""What uv writes before its reason; ours says that already."""


def _succeeded(result: process.Result, question: Question) -> None:
    """Turn uv's message into ours: unsatisfiable with uv's reason (exit 3), an index that gives no answer that serves (4), or a setting (2)."""
    if result.ok:
        return
    said = (result.err or result.out).strip()
    if says_full(said):
        raise full_disk(said, str(paths.cache_dir()))
    if _SETTING.search(said):
        raise UsageError(
            "uv cannot use one of your settings",
            why=said.removeprefix("error: ").partition("\n\n")[0],
            hints=["correct it or unset it: `env | grep ^UV_` shows those of the environment"],
            code="bad-setting",
        )
    if download.offline.get() and not question.settings.no_index:
        raise SourceUnreachable(
            "what the package index says about these packages is not at hand, and --offline forbids asking it",
            why=_innermost(said),
            hints=[
                "run the same command once without --offline: its answers are kept",
                "or carry a bundle: provision bundle LOCK -o FILE.tar",
            ],
            code="offline",
        )
    if result.timed_out or says_unreachable(said) or not _UNSOLVABLE.search(said):
        raise _no_answer(said, question)
    _check_index(question)
    raise NoRoute(
        "the packages cannot be installed together",
        why=_HEADING.sub("", _FOREIGN_HINT.sub("", said)).strip(),
        hints=["loosen the pin named above, or leave out the --with package that causes it"],
        code="unsolvable",
    )


def _no_answer(said: str, question: Question) -> SourceUnreachable:
    asked = [place for place in (question.settings.url, question.index_url) if place]
    hosts = [urlsplit(place).hostname or place for place in asked]
    return SourceUnreachable(
        f"the package index does not answer: {next((host for host in hosts if host in said), hosts[0])}",
        why=_innermost(said) if said else f"no answer within {RESOLVE_SECONDS:.0f} s",
        hints=["check the network and HTTPS_PROXY", "or use a mirror: --mirror NAME, `pip config set global.index-url URL`"],
        code="index-unreachable",
    )


def _check_index(question: Question) -> None:
    """Raise `SourceUnreachable` when what answers at the index's address lists no files: a login page, a web site, a wrong path."""
    url = question.settings.url.rstrip("/")
    if question.settings.no_index or urlsplit(url).scheme not in ("http", "https") or not question.requirements:
        return
    project = re.split(r"[^A-Za-z0-9._-]", question.requirements[0])[0].replace("_", "-").lower()
    found = download.get_answer(f"{url}/{project}/", accept=(200, 404))
    if found.status == 200 and not re.search(r'<a\s|^\s*\{.*"files"', found.text, re.IGNORECASE | re.DOTALL):
        raise SourceUnreachable(
            f"what answers at {download.redact(url)} is no package index",
            why=f"its page of {project} lists no files: a login page of the network, or an address that lacks /simple",
            hints=[
                f"open {download.redact(url)}/{project}/ in a browser",
                "then set the right one: `pip config set global.index-url URL`",
            ],
            code="not-an-index",
        )


def _innermost(said: str) -> str:
    """Return the first line of the last cause that uv gives, without credentials."""
    last = re.split(r"caused by:|cause:", said, flags=re.IGNORECASE)[-1].strip()
    return re.sub(r"://[^/@\s]+@", "://", last.splitlines()[0] if last else said)
