from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.machine.redact import Identity, redactor

redact = redactor(Identity(users=("jdoe", "ai", "root"), hosts=("gpu-node7.example", "gpu-node7"), home="/export/home/jdoe"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/export/home/jdoe/envs/llm/bin/python", "/home/user/envs/llm/bin/python"),
        ("/scratch/jdoe/x", "/scratch/user/x"),
        ("/export/home/jdoe2/x", "/export/home/jdoe2/x"),
        ("gpu-node7:/data on /data", "host:/data on /data"),
        ("GPU-8f9c1d2e-0000-1111-2222-333344445555", "GPU-00000000-0000-0000-0000-000000000000"),
        ("    Serial Number                          : 1324121000042", "    Serial Number                          : REDACTED"),
        ("    Serial Number                          : N/A", "    Serial Number                          : N/A"),
        ("<serial>0322718012345</serial>", "<serial>REDACTED</serial>"),
        ("https://jdoe:hunter2@index.example/simple", "https://REDACTED@index.example/simple"),
        ("tainted domain fails, ai helps", "tainted domain fails, user helps"),
        ("/root/.cache", "/root/.cache"),
    ],
)
def test_names_serials_and_secrets_go_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.text(alphabet="jdoe/gpu-n7.ai: 0123456789abcdef", max_size=120))
def test_what_is_redacted_once_stays_as_it_is(text: str) -> None:
    assert redact(redact(text)) == redact(text)
