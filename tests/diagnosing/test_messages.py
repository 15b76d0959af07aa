"""The message catalogue: each message is found by the sample that the knowledge base holds, has a source, and a usable pattern."""

from __future__ import annotations

import re

import pytest

from provisioner.diagnosing import messages
from provisioner.knowledge import error_catalogue
from provisioner.machine.report.cleaning import clean

KNOWN = {entry.id: entry for entry in error_catalogue.entries()}
PAIRS = [(message.code, name) for message in messages.all_messages() for name in message.known_as]


@pytest.mark.parametrize(("code", "name"), PAIRS)
def test_the_sample_of_a_known_error_is_found_under_its_code(code: str, name: str) -> None:
    found = messages.match(clean(KNOWN[name].sample))
    assert code in {candidate.code for candidate in found}, KNOWN[name].sample


@pytest.mark.parametrize("message", messages.all_messages(), ids=lambda message: f"{message.code}-{message.rank}")
def test_every_message_says_where_it_was_seen_and_what_to_do(message: messages.Message) -> None:
    assert messages.source_of(message), "a rule without evidence is refused"
    assert message.fix
    assert message.words
    assert all(word == word.lower() for word in message.words)
    assert re.compile(message.pattern).match("") is None


def test_a_line_that_holds_the_match_is_quoted_whole() -> None:
    (candidate,) = messages.match(clean("one\n  OSError: [Errno 28] No space left on device: '/tmp/x'\nthree"))
    assert candidate.evidence == ("OSError: [Errno 28] No space left on device: '/tmp/x'",)
