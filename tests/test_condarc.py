from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.condarc import CondaSettings, read_conda_settings

FORGE = "https://conda.anaconda.org/conda-forge"

MIRROR_PAGE = """\
channels:
  - defaults
show_channel_urls: true
default_channels:
  - https://mirror.example/anaconda/pkgs/main
custom_channels:
  conda-forge: https://mirror.example/anaconda/cloud
  pytorch: https://mirror.example/anaconda/cloud/
"""


def settings(home: Path, text: str, name: str = ".condarc", **environ: str) -> CondaSettings:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read_conda_settings(environ, home=home, etc=home / "etc")


def test_without_a_condarc_nothing_is_set(tmp_path: Path) -> None:
    assert read_conda_settings({}, home=tmp_path, etc=tmp_path) == CondaSettings()


def test_what_mirrors_teach_to_write_into_condarc_is_a_mirror_of_conda_forge(tmp_path: Path) -> None:
    found = settings(tmp_path, MIRROR_PAGE)
    assert found.mirrors == ((FORGE, "https://mirror.example/anaconda/cloud/conda-forge"),)
    assert dict(found.places)["pytorch"] == "https://mirror.example/anaconda/cloud/pytorch"
    assert found.channels == (), "defaults has no conda-forge in it"


def test_a_channel_alias_serves_every_channel_without_a_place_of_its_own(tmp_path: Path) -> None:
    found = settings(tmp_path, "channel_alias: https://alias.example/\n")
    assert found.mirrors == ((FORGE, "https://alias.example/conda-forge"),)
    assert dict(found.places) == {"*": "https://alias.example"}
    by_variable = settings(tmp_path, "", CONDA_CHANNEL_ALIAS="https://variable.example")
    assert by_variable.mirrors == ((FORGE, "https://variable.example/conda-forge"),)


def test_the_users_channels_are_taken_when_conda_forge_is_among_them(tmp_path: Path) -> None:
    text = "channels: [internal, conda-forge, defaults]\n"
    assert settings(tmp_path, text).channels == ("internal", "conda-forge")
    assert settings(tmp_path, text, CONDA_CHANNELS="https://x.example/conda-forge, other").channels == (
        "https://x.example/conda-forge",
        "other",
    )


def test_micromambas_and_pixis_mirrors_count(tmp_path: Path) -> None:
    text = "mirrored_channels:\n  conda-forge: [https://a.example/forge, https://b.example/forge]\n"
    (tmp_path / ".pixi").mkdir()
    (tmp_path / ".pixi/config.toml").write_text(f'[mirrors]\n"{FORGE}" = ["https://pixi.example/forge"]\n')
    found = settings(tmp_path, text, ".mambarc")
    assert [url for _, url in found.mirrors] == [
        "https://a.example/forge",
        "https://b.example/forge",
        "https://pixi.example/forge",
    ]


@pytest.mark.parametrize("text", ["\x00", "- a list", "channels: {", "channels: 7\ncustom_channels: []\nmirrored_channels: x\n"])
def test_a_broken_condarc_counts_as_absent(tmp_path: Path, text: str) -> None:
    assert settings(tmp_path, text) == CondaSettings()


def test_variables_in_values_are_the_users_and_strange_values_count_as_absent(tmp_path: Path) -> None:
    text = "channels: ['https://$HOST/forge/conda-forge', {a: b}, 7]\nchannel_alias: [1]\ncustom_channels: {x: 7, y: '${HOST}', z: $NONE}\n"
    found = settings(tmp_path, text + "mirrored_channels: {conda-forge: [7, null]}\n", HOST="conda.example")
    assert found.channels == ("https://conda.example/forge/conda-forge",)
    assert dict(found.places) == {"y": "conda.example/y", "z": "$NONE/z"}
    assert found.mirrors == ()


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "channels: conda-forge\n", "!!python/object:os.system x\n", "a: b: c\n", "proxy_servers: x\n"]
)
def test_a_condarc_that_is_none_is_as_if_it_were_not_there(tmp_path: Path, text: str) -> None:
    assert settings(tmp_path, text) == CondaSettings()


def test_proxies_are_read(tmp_path: Path) -> None:
    found = settings(tmp_path, "proxy_servers:\n  https: http://$USER_NAME@proxy.example:3128\n  http: null\n", USER_NAME="me")
    assert found.proxies == (("https", "http://me@proxy.example:3128"),)
