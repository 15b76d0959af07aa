from __future__ import annotations

import pytest

from provisioner.environments.names import check_name
from provisioner.errors import UsageError


@pytest.mark.parametrize("name", ["unsloth_env", "unsloth-dev", "a", "env2.1", "_x", "A" * 64])
def test_a_plain_name_is_taken_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("a/b", "path"),
        ("/abs", "path"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("-rf", "dash"),
        ("a b", "only letters"),
        ("环境", "only letters"),
        ("x" * 65, "65 characters"),
        ("a\n", "only letters"),
    ],
)
def test_another_name_is_refused_with_the_reason_and_one_that_works(name: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert why in (caught.value.why or "")
    suggestion = caught.value.hints[0].removeprefix("provision create ")
    assert check_name(suggestion) == suggestion
