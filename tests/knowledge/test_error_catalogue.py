from __future__ import annotations

import pytest

from provisioner.knowledge import error_catalogue
from provisioner.knowledge.error_catalogue import KnownError

ENTRIES = error_catalogue.entries()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_each_entry_finds_its_own_sample_first(entry: KnownError) -> None:
    first = next(other for other in ENTRIES if other.pattern.search(entry.sample))
    assert first.id == entry.id or first.priority == entry.priority


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_each_entry_says_why_and_what_to_do_and_who_saw_it(entry: KnownError) -> None:
    assert entry.cause
    assert entry.fix
    assert entry.threads or entry.sample_from != "thread"
    assert entry.stage in {"install", "build", "import", "run"}


def test_an_ordinary_line_is_no_error() -> None:
    assert not [entry.id for entry in ENTRIES if entry.pattern.search("Successfully installed flash-attn-2.8.3")]
