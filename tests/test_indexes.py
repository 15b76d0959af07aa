from __future__ import annotations

from pathlib import Path

from provisioner.indexes import IndexSettings, read_index_settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_any_setting_the_tools_own_default_serves(tmp_path: Path) -> None:
    settings = read_index_settings({}, home=tmp_path, etc=tmp_path / "etc")
    assert settings == IndexSettings()
    assert settings.options() == []
    assert settings.url.startswith("https://")


def test_a_mirror_in_pip_conf_serves_here_too(tmp_path: Path) -> None:
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nindex-url = https://mirror.example/simple\ntrusted-host = mirror.example\n"
        "[install]\nextra-index-url = https://a.example/simple https://b.example/simple\nfind_links = /wheels\n",
    )
    settings = read_index_settings({}, home=tmp_path, etc=tmp_path / "etc")
    assert settings.origin == "pip"
    assert settings.url == "https://mirror.example/simple"
    assert settings.options() == [
        *("--default-index", "https://mirror.example/simple"),
        *("--index", "https://a.example/simple", "--index", "https://b.example/simple"),
        *("--index-strategy", "unsafe-best-match"),
        *("--find-links", "/wheels"),
        *("--allow-insecure-host", "mirror.example"),
    ]
    assert "--find-links" not in settings.options(find_links=False)


def test_variables_win_over_files_and_the_null_file_silences_them_all(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://file.example/simple\n")
    environ = {"PIP_INDEX_URL": "https://variable.example/simple"}
    assert read_index_settings(environ, home=tmp_path, etc=tmp_path / "etc").url == "https://variable.example/simple"
    assert read_index_settings({"PIP_CONFIG_FILE": "/dev/null"}, home=tmp_path, etc=tmp_path / "etc") == IndexSettings()


def test_uvs_own_settings_win_and_are_left_to_uv(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://pip.example/simple\n")
    write(tmp_path / ".config/uv/uv.toml", '[[index]]\nurl = "https://uv.example/simple"\ndefault = true\n')
    settings = read_index_settings({}, home=tmp_path, etc=tmp_path / "etc")
    assert (settings.origin, settings.url, settings.options()) == ("uv", "https://uv.example/simple", [])
    by_variable = read_index_settings({"UV_DEFAULT_INDEX": "https://env.example/simple"}, home=tmp_path, etc=tmp_path / "etc")
    assert by_variable.url == "https://env.example/simple"


def test_a_broken_configuration_file_counts_as_absent(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "index-url without a section\n\x00")
    write(tmp_path / ".config/uv/uv.toml", "not [ toml")
    assert read_index_settings({}, home=tmp_path, etc=tmp_path / "etc") == IndexSettings()


def test_the_default_index_is_the_librarys_own_though_the_library_is_not_imported() -> None:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    assert IndexSettings().url == PYPI_SIMPLE_ENDPOINT


def test_passwords_in_index_urls_are_known_by_host() -> None:
    settings = IndexSettings(
        "pip", "https://me:p%40ss@a.example:8443/simple", extra=("https://b.example/simple", "https://you@c.example/x")
    )
    uv = {"UV_INDEX": "inner=http://it:x@d.example/simple https://e.example"}
    assert settings.credentials(uv) == {
        "a.example:8443": ("me", "p@ss"),
        "c.example": ("you", ""),
        "d.example": ("it", "x"),
    }
