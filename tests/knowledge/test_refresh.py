from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from provisioner import download
from provisioner.errors import SourceUnreachable
from provisioner.knowledge import refresh, release_lists, wheel_index
from provisioner.knowledge.refresh import Difference, Refresh
from tests.knowledge.release_server import ReleaseServer, asset, release, serve

OFFICIAL, COMMUNITY = (publisher.source for publisher in release_lists.PUBLISHERS)
NEW = "flash_attn-2.9.0+cu13torch2.14cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
OLD = "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
THEIRS = "flash_attn-2.8.3+cu130torch2.14-cp312-cp312-manylinux_2_28_x86_64.whl"

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[ReleaseServer]:
    wheel_index.load.cache_clear()
    with serve() as running:
        running.repositories[OFFICIAL] = [
            release("v2.9.0", asset(OFFICIAL, "v2.9.0", NEW, "new", 123_456)),
            release("v2.8.3", asset(OFFICIAL, "v2.8.3", OLD, "old"), asset(OFFICIAL, "v2.8.3", "notes.txt")),
            release("v1", draft=True),
        ]
        running.repositories[COMMUNITY] = [release("v1.0.0", asset(COMMUNITY, "v1.0.0", THEIRS))]
        yield running
    wheel_index.load.cache_clear()


def update(server: ReleaseServer) -> Refresh:
    return refresh.refresh(api=server.url)


def of(outcome: Refresh, source: str) -> Difference:
    return next(difference for difference in outcome.differences if difference.source == source)


def test_new_wheels_of_every_page_enter_the_index_with_hash_and_size(server: ReleaseServer) -> None:
    outcome = update(server)
    assert f"v2.9.0/{NEW}" in of(outcome, OFFICIAL).added
    (wheel,) = (one for one in wheel_index.load().find("2.14", "cp312", "linux_x86_64") if one.trust == "official")
    assert (wheel.sha256, wheel.size) == (hashlib.sha256(b"new").hexdigest(), 123_456)
    assert wheel.url.endswith(f"/v2.9.0/{NEW.replace('+', '%2B')}")
    assert wheel_index.load() is not wheel_index.shipped()
    assert wheel_index.load().date == outcome.date
    assert [path for path, _, _ in server.asked if "page=2" in path]


def test_what_a_publisher_withdrew_leaves_the_index_and_is_named(server: ReleaseServer) -> None:
    outcome = update(server)
    gone = of(outcome, OFFICIAL).removed
    assert any("v2.8.2/" in name for name in gone)
    assert not [wheel for wheel in wheel_index.load().wheels if wheel.version == "2.8.2" and wheel.trust == "official"]
    assert [wheel for wheel in wheel_index.load().wheels if wheel.source.startswith("Wildminder/")], "not asked, so kept"


def test_a_hash_that_changed_is_reported_as_such(server: ReleaseServer) -> None:
    update(server)
    server.repositories[OFFICIAL][1] = release("v2.8.3", asset(OFFICIAL, "v2.8.3", OLD, "swapped"))
    assert of(update(server), OFFICIAL).rehashed == (f"v2.8.3/{OLD}",)


def test_a_hash_known_before_stays_where_the_list_states_none(server: ReleaseServer) -> None:
    known = next(wheel for wheel in wheel_index.shipped().wheels if wheel.trust == "official" and wheel.sha256)
    server.repositories[OFFICIAL] = [release(known.release, asset(OFFICIAL, known.release, known.filename))]
    update(server)
    (wheel,) = (one for one in wheel_index.load().wheels if one.trust == "official")
    assert wheel.sha256 == known.sha256


def test_the_second_time_nothing_is_transferred_and_nothing_differs(server: ReleaseServer) -> None:
    first = update(server)
    server.asked.clear()
    second = update(server)
    assert set(server.statuses()) == {304}
    assert second.wheels == first.wheels
    assert all(not (one.added or one.removed or one.hashed or one.rehashed or one.failure) for one in second.differences)


def test_a_wheel_added_to_an_old_release_is_found_though_the_first_page_has_not_changed(server: ReleaseServer) -> None:
    server.page_size = 1
    update(server)
    late = NEW.replace("2.9.0", "2.8.3")
    server.repositories[OFFICIAL][1]["assets"].append(asset(OFFICIAL, "v2.8.3", late, "late"))
    assert of(update(server), OFFICIAL).added == (f"v2.8.3/{late}",)


def test_one_publisher_out_of_reach_keeps_its_old_wheels(server: ReleaseServer) -> None:
    del server.repositories[COMMUNITY]
    outcome = update(server)
    assert "404" in (of(outcome, COMMUNITY).failure or "")
    assert sum(1 for wheel in wheel_index.load().every() if wheel.source == COMMUNITY) >= 3567


def test_a_server_that_is_busy_is_asked_again(server: ReleaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.busy = 2
    assert not [difference.failure for difference in update(server).differences if difference.failure]
    assert server.statuses()[:3] == [502, 502, 200]


def test_a_list_cannot_lend_its_trust_to_files_elsewhere(server: ReleaseServer) -> None:
    stray = asset("somebody/else", "v2.9.0", NEW.replace("cp312", "cp313"), "stray")
    server.repositories[OFFICIAL][0]["assets"].append(stray)
    update(server)
    assert not wheel_index.load().find("2.14", "cp313", "linux_x86_64")


def test_a_list_that_has_lost_every_wheel_is_not_believed(server: ReleaseServer) -> None:
    server.repositories[COMMUNITY] = [release("v1.0.0")]
    outcome = update(server)
    assert "no wheel" in (of(outcome, COMMUNITY).failure or "")
    assert sum(1 for wheel in wheel_index.load().every() if wheel.source == COMMUNITY) >= 3567


@pytest.mark.parametrize("how", ["truncated", "broken_off"])
def test_half_a_list_is_never_taken_for_a_list(server: ReleaseServer, how: str) -> None:
    getattr(server, how).update({OFFICIAL, COMMUNITY})
    with pytest.raises(SourceUnreachable):
        update(server)
    assert not wheel_index.updated_index_path().exists()
    assert wheel_index.load() is wheel_index.shipped()


def test_a_used_up_allowance_says_so_and_names_the_token(server: ReleaseServer) -> None:
    server.limited = True
    with pytest.raises(SourceUnreachable) as caught:
        update(server)
    assert caught.value.code == "rate-limited"
    assert caught.value.exit_code == 4
    assert wheel_index.shipped().date in caught.value.what
    assert any("GITHUB_TOKEN" in hint for hint in caught.value.hints)


def test_without_network_the_index_that_is_there_serves_and_its_day_is_said(server: ReleaseServer) -> None:
    token = download.offline.set(True)
    try:
        with pytest.raises(SourceUnreachable) as caught:
            update(server)
    finally:
        download.offline.reset(token)
    assert caught.value.code == "offline"
    assert wheel_index.shipped().date in caught.value.what
    assert server.asked == []


def test_the_token_for_github_is_not_sent_to_a_mirror(server: ReleaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "for-github-alone")
    update(server)
    assert all("authorization" not in headers for _, _, headers in server.asked)
    monkeypatch.setenv("PROVISION_RELEASES_TOKEN", "for-the-mirror")
    update(server)
    assert server.asked[-1][2]["authorization"] == "Bearer for-the-mirror"


def test_no_file_and_no_error_holds_a_token(server: ReleaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISION_RELEASES_TOKEN", "secret-of-the-user")
    update(server)
    written = b"".join(path.read_bytes() for path in wheel_index.updated_index_path().parent.rglob("*.json"))
    assert b"secret-of-the-user" not in written
    server.limited = True
    with pytest.raises(SourceUnreachable) as caught:
        update(server)
    assert "secret-of-the-user" not in repr(caught.value.to_dict())
