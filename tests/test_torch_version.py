"""What torch states of itself, in the forms that its releases have."""

from __future__ import annotations

import pytest

from provisioner.torch_version import TorchVersion, parse_torch_version


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (
            "__version__ = '2.0.1+cu118'\ndebug = False\ncuda = '11.8'\ngit_version = 'e9ebda2'\nhip = None\n",
            TorchVersion("2.0.1+cu118", "11.8", "e9ebda2"),
        ),
        (
            "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\ngit_version = 'abc'\nxpu: Optional[str] = None\n",
            TorchVersion("2.11.0+cu130", "13.0", "abc"),
        ),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", TorchVersion("2.13.0+cpu", None, None)),
        ('__version__ = "2.9.1"\r\ncuda = "12.8.1"\r\n', TorchVersion("2.9.1", "12.8", None)),
        ("cuda_is_nice = '9.9'\n# __version__ = '1'\n", TorchVersion()),
        ("", TorchVersion()),
    ],
    ids=["2.0", "annotated", "cpu", "double quotes, CRLF", "look-alikes", "empty"],
)
def test_a_torch_version_file_is_read_as_it_stands(text: str, stated: TorchVersion) -> None:
    assert parse_torch_version(text) == stated
