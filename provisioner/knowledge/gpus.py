"""GPU names → compute capability, for machines that one is not on.

Never ask this where NVML or nvidia-smi answers: marketing names are ambiguous ("RTX 6000" names three chips of three
generations), and OEM names say nothing at all.
"""

from __future__ import annotations

import functools
import re

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.knowledge import tables

SUGGESTIONS = 6


class GpuModel(msgspec.Struct, frozen=True):
    """A GPU model: ``memory_mib`` is None where the name leaves it open, ``family`` is the architecture's name."""

    name: str
    compute_capability: str
    memory_mib: int | None
    family: str
    source: str
    date: str
    chip: str | None = None
    released: str | None = None
    note: str | None = None

    @property
    def capability(self) -> ComputeCapability:
        """The compute capability as a comparable value."""
        return ComputeCapability.parse(self.compute_capability)


@functools.cache
def models() -> tuple[GpuModel, ...]:
    """Return every model of the table; those of NVIDIA's own list come last."""
    return tables.rows("gpus", GpuModel)


@functools.lru_cache(maxsize=4096)
def find_gpu(name: str) -> GpuModel | None:
    """Return the model that ``name`` means, as users and nvidia-smi write it (``4090``, ``A100-80g``, ``NVIDIA H100 80GB HBM3``).

    None when nothing or models of different compute capability match; `suggest` then tells what could be meant.
    Where several models of one compute capability match, the plainest is returned, its memory None if they differ in it.
    """
    if (same := _by_name().get(name.casefold().removeprefix("nvidia ").strip())) is not None:
        return same
    matches = _matches(name)
    if not matches or len({model.compute_capability for model in matches}) > 1:
        return None
    stated = next((int(size[1]) * 1024 for word in _ordered_words(name) if (size := _SIZE.fullmatch(word))), None)
    return _plainest(matches, stated)


def suggest(name: str) -> tuple[str, ...]:
    """Return the names that ``name`` could mean: one per compute capability if ambiguous, else the nearest spellings."""
    plain: dict[str, GpuModel] = {}
    for model in sorted(_matches(name), key=_plainness):
        plain.setdefault(model.compute_capability, model)
    if plain:
        return tuple(model.name for model in plain.values())[:SUGGESTIONS]
    import difflib  # imported where a name is unknown: not at every start

    spellings = {" ".join(_ordered_words(model.name)): model.name for model in models()}
    near = difflib.get_close_matches(" ".join(_ordered_words(name)), spellings, n=SUGGESTIONS, cutoff=0.6)
    return tuple(spellings[key] for key in near) or _with_a_near_number(name)


def _with_a_near_number(name: str) -> tuple[str, ...]:
    """Return the models of the number that is nearest to one in ``name``: ``4o90`` is two letters of five away from ``RTX 4090``."""
    import difflib

    numbers = {word for model in models() for word in _words(model.name) if any(map(str.isdigit, word))}
    for word in _ordered_words(name):
        if any(map(str.isdigit, word)) and (near := difflib.get_close_matches(word, sorted(numbers), n=1, cutoff=0.7)):
            return tuple(model.name for model in sorted(_with_words(frozenset(near)), key=_plainness))[:SUGGESTIONS]
    return ()


# How names are written: words that tell no models apart, words for the form alone, and the spellings of people and drivers.
_NOISE = frozenset(
    [
        "nvidia",
        "corporation",
        "geforce",
        "tesla",
        "grid",
        "graphics",
        "device",
        "card",
        "gpu",
        "gpus",
        "generation",
        "edition",
        "workstation",
        "with",
        "design",
        "hbm",
        "hbm2",
        "hbm2e",
        "hbm3",
        "hbm3e",
        "gddr6",
        "tensor",
        "core",
        "rev",
        "module",
        "developer",
        "kit",
        "series",
        "vram",
        "superchip",
        "nvgpu",
    ]
)
_FORM = re.compile(r"\d+gb|pcie|sxm|fhhl|dgxs|nvl|(ga|tu|ad|gm)\d{3}")
_FORM_IN_NAME = re.compile(r" (PCIe|SXM\d?|FHHL|DGXS|NVL|\d+ GB|(GA|TU|AD|GM)\d{3})(?= |$)")
_SPELLINGS = {"laptop": "mobile", "notebook": "mobile", "maxq": "max-q"}
_MODEL_WORD = re.compile(r"\d|^(titan|orin|xavier|thor|spark)$")
_SIZE = re.compile(r"(\d+)gb")
_MEMORY = re.compile(r"\b(\d+)\s*(?:gb|gib|g)\b")
_MIG = re.compile(r"\bmig\b.*|\b\d+g\.\d+gb\b")
_VGPU_PROFILE = re.compile(r"-\d+(?:-\d+)?[qcab]\b")
_GLUED = re.compile(r"\b(rtx|gtx|gt|titan|quadro|tesla|geforce)(?=[a-z]?\d)")
_SUFFIX = re.compile(r"\b(\d{3,4})(ti|super|d|m|s)(?=\b|super|m\b)")
_TRUNCATED = re.compile(r"([a-z0-9]+)\.\.\.$", re.IGNORECASE)
_SXM = re.compile(r"\bsxm\d\b")


def _ordered_words(name: str) -> list[str]:
    text = name.lower().replace("(tm)", " ").replace("(r)", " ").replace("max-q", "maxq")
    text = _VGPU_PROFILE.sub(" ", _MIG.sub(" ", text))
    text = _MEMORY.sub(r" \1gb ", re.sub(r"[^a-z0-9]+", " ", text))
    text = _SXM.sub("sxm", _SUFFIX.sub(r"\1 \2 ", _GLUED.sub(r"\1 ", text)))
    words = (_SPELLINGS.get(word, word) for word in text.split())
    return [word for word in words if word not in _NOISE]


@functools.cache
def _words(name: str) -> frozenset[str]:
    return frozenset(_ordered_words(name))


@functools.cache
def _by_name() -> dict[str, GpuModel]:
    """The models whose whole name is unique: ``GRID M40`` and ``Tesla M40`` are different chips."""
    found: dict[str, list[GpuModel]] = {}
    for model in models():
        found.setdefault(model.name.casefold(), []).append(model)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


@functools.cache
def _squeezed() -> tuple[tuple[str, GpuModel], ...]:
    """The models with their names in small letters and digits alone, in which each word of a name is found as it is."""
    return tuple(("".join(filter(str.isalnum, model.name.lower())), model) for model in models())


def _matches(name: str) -> list[GpuModel]:
    """The models whose name has every word of ``name``; a memory size or form factor that no such model has is ignored.

    nvidia-smi's table cuts long names (``GeForce RTX 208...``): the last word is then the start of one.
    """
    if (cut := _TRUNCATED.search(name.strip())) is not None:
        return _matches_of_cut_name(name.strip()[: cut.start()], cut[1].lower())
    words = frozenset(_ordered_words(name))
    sizes = frozenset(word for word in words if _SIZE.fullmatch(word))
    forms = frozenset(word for word in words if _FORM.fullmatch(word))
    for asked in dict.fromkeys((words, words - sizes, words - forms)):
        if not any(_MODEL_WORD.search(word) for word in asked - sizes):
            continue
        named = _with_words(asked)
        if named:
            return [model for model in named if asked == _words(model.name)] or named
    return []


def _matches_of_cut_name(whole: str, start: str) -> list[GpuModel]:
    words = frozenset(_ordered_words(whole))
    if not words and not _MODEL_WORD.search(start):
        return []
    named = _with_words(words)
    begun = [model for model in named if any(word.startswith(start) for word in _words(model.name) - words)]
    return begun or (named if any(_MODEL_WORD.search(word) for word in words) else [])


def _with_words(asked: frozenset[str]) -> list[GpuModel]:
    literal = asked.difference(_SPELLINGS.values())
    named = (model for text, model in _squeezed() if all(word in text for word in literal))
    return [model for model in named if asked <= _words(model.name)]


def _plainness(model: GpuModel) -> tuple[int, int]:
    """Fewest words that tell a variant (``Mobile``, ``Ti``), form factor and memory size aside; then the shortest name."""
    return sum(not _FORM.fullmatch(word) for word in _words(model.name)), len(model.name)


def _plainest(matches: list[GpuModel], size: int | None) -> GpuModel:
    fewest = min(map(_plainness, matches))[0]
    plain = sorted((model for model in matches if _plainness(model)[0] == fewest), key=_plainness)
    if len(plain) == 1:
        return plain[0]
    memory = {model.memory_mib for model in plain}
    shared = memory.pop() if len(memory) == 1 else size
    return msgspec.structs.replace(plain[0], name=_FORM_IN_NAME.sub("", plain[0].name), memory_mib=shared, chip=None)
