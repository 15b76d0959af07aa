"""The versions that the options ask for: what is taken, and what a slip is answered with."""

from __future__ import annotations

import re

from provisioner.errors import UsageError

EXAMPLES = {"--python": "3.12", "--torch": "2.9.1", "--cuda": "12.8", "--flash-attn": "2.8.3"}

_FORMS = {
    "--python": re.compile(r"3(\.\d{1,2})?"),
    "--cuda": re.compile(r"\d{1,2}(\.\d{1,2}(\.\d{1,3})?)?"),
}
_ANY = re.compile(r"\d(\.\d+)*(\.?(post|rc|dev)\d+)?(\+[a-z0-9.]+)?")
_TORCH_LABEL = re.compile(r"(?P<torch>[^+]+)\+cu(?P<major>\d{2})(?P<minor>\d)")
_CUDA_LABEL = re.compile(r"cu(?:da)?[-_ ]?(\d{2})\.?(\d)", re.IGNORECASE)
_BEFORE = re.compile(r"^(?:python|torch|cuda|flash-attn|cp|cu|py|v|[=<>~ ])+")
_NO_RELEASE = re.compile(r"nightly|dev|main|git", re.IGNORECASE)


def pin(text: str | None, option: str) -> str | None:
    """Return the version that ``option`` asks for, None where it asks for none; ``cu128`` is CUDA 12.8, as PyTorch's indexes are called.

    Raise `UsageError` for what is no version, naming the one that was probably meant.
    """
    if text is None:
        return None
    text = text.strip()
    if option == "--cuda" and (label := _CUDA_LABEL.fullmatch(text)):
        return f"{label[1]}.{label[2]}"
    if _is_version(text, option):
        return text
    raise UsageError(f"{option} needs a version, not {text!r}", why=_why(text, option), hints=_hints(text, option))


def torch_pins(torch: str | None, cuda: str | None) -> tuple[str | None, str | None]:
    """Return torch's and CUDA's version with torch's local label taken apart: ``2.10.0+cu128`` is torch 2.10.0 for CUDA 12.8.

    Raise `UsageError` where the label and ``--cuda`` name different versions, and for a label that is not CUDA's.
    """
    if torch is None or "+" not in torch:
        return torch, cuda
    label = _TORCH_LABEL.fullmatch(torch)
    if label is None:
        hint = "--recipe cpu plans for a machine without a GPU" if torch.endswith("+cpu") else "for example --torch 2.10.0+cu128"
        raise UsageError(f"--torch {torch} is no build for CUDA", hints=[hint])
    stated = f"{label['major']}.{label['minor']}"
    if cuda is not None and cuda != stated:
        raise UsageError(f"--torch {torch} is for CUDA {stated}, and --cuda asks for {cuda}", hints=["leave one of them away"])
    return label["torch"], stated


def _is_version(text: str, option: str) -> bool:
    return _FORMS.get(option, _ANY).fullmatch(text) is not None


def _why(text: str, option: str) -> str | None:
    if option == "--python" and re.fullmatch(r"3\.\d{1,2}\.\d{1,2}", text):
        return "wheels are for X.Y, and the newest patch release of it is taken"
    if option == "--torch" and _NO_RELEASE.search(text):
        return "a nightly leaves its index after a while, so no lock can name it, and nobody publishes flash-attn wheels for one"
    return None


def _hints(text: str, option: str) -> list[str]:
    if option == "--torch" and _NO_RELEASE.search(text):
        return ["for a torch that is already there: provision install --python PATH", f"a release: --torch {EXAMPLES['--torch']}"]
    if meant := _meant(text, option):
        return [f"did you mean {option} {meant}?"]
    return [f"write it as {option} {EXAMPLES[option]}", f"leave {option} away: the best one that fits is chosen"]


def _meant(text: str, option: str) -> str | None:
    """Return the version behind a slip: a comma for a point, a word before it, or no point at all (``312``, ``cp312``, ``124``)."""
    plain = re.sub(r"[,;:]", ".", _BEFORE.sub("", text.lower()))
    if option == "--python" and (patch := re.fullmatch(r"(3\.\d{1,2})\.\d{1,2}", plain)):
        return patch[1]
    joined = re.fullmatch(r"(\d\d)(\d)" if option == "--cuda" else r"([23])(\d{1,2})", plain)
    candidate = f"{joined[1]}.{joined[2]}" if joined else plain
    return candidate if _is_version(candidate, option) else None
