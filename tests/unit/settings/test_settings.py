"""Settings: what is unknown, empty or weak refuses to start, and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from chrono_ray import settings, wiring
from chrono_ray.model.errors import SettingsError
from chrono_ray.storage.governor import Pauses


def test_nothing_set_means_everything_is_started_for_me() -> None:
    loaded = settings.load({})
    assert loaded.database_url is None
    assert loaded.redis_url is None
    assert loaded.meilisearch_url is None
    assert loaded.ray_address is None


def test_wayback_defaults_are_what_its_staff_ask_for() -> None:
    wayback = settings.load({}).archives.wayback
    assert (wayback.cdx_per_minute, wayback.replay_per_minute) == (24, 480)


def test_pauses_are_the_governors_own_unless_chosen() -> None:
    assert wiring.pauses(settings.load({})) == Pauses()
    chosen = settings.load({"CHRONO_POLITENESS__BAN": "3", "CHRONO_POLITENESS__BAN_MOST": "6"})
    assert wiring.pauses(chosen) == Pauses(ban=3, ban_most=6)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="CHRONO_DATABSE_URL"):
        settings.load({"CHRONO_DATABSE_URL": "postgresql://x"})


def test_an_unknown_nested_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="CHRONO_ARCHIVES__WAYBACK__SPEED"):
        settings.load({"CHRONO_ARCHIVES__WAYBACK__SPEED": "9"})


def test_settings_of_tests_are_not_ours() -> None:
    assert settings.load({"CHRONO_TEST_MEILISEARCH_URL": "http://127.0.0.1:7700"})


@pytest.mark.parametrize(
    "name",
    ["CHRONO_DATABASE_URL", "CHRONO_REDIS_URL", "CHRONO_MEILISEARCH_URL", "CHRONO_BLOBS_URL"],
)
def test_an_empty_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.load({name: "  "})


@pytest.mark.parametrize("key", ["", "masterKey", "changeme", "short"])
def test_a_weak_secret_is_refused_and_not_shown(key: str) -> None:
    environment = {"CHRONO_MEILISEARCH_URL": "http://m:7700", "CHRONO_MEILISEARCH_KEY": key}
    with pytest.raises(SettingsError, match="CHRONO_MEILISEARCH_KEY") as caught:
        settings.load(environment)
    assert not key or key not in str(caught.value).replace("CHRONO_MEILISEARCH_KEY", "")


def test_meilisearch_without_a_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="CHRONO_MEILISEARCH_KEY"):
        settings.load({"CHRONO_MEILISEARCH_URL": "http://127.0.0.1:7700"})


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE", "-1", "be 0 or more"),
        # without room for a task those that wait are never done, however many scrapers they call
        ("CHRONO_TASKS__SLOTS", "0", "be 1 or more"),
        ("CHRONO_TASKS__SOFT", "0", "be more than 0"),
        ("CHRONO_TASKS__SOFT", "soon", "be a number"),
        ("CHRONO_SERVING__PORT", "65536", "be 65535 or less"),
        ("CHRONO_SERVING__PORT", "http", "be a whole number"),
        ("CHRONO_SERVING__HAPROXY", "perhaps", "be true or false"),
    ],
)
def test_a_value_that_nothing_can_work_with_is_refused_in_plain_words(
    name: str, value: str, must: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load({name: value})
    assert refused.value.why == f"{name} must {must}"
    assert "docs/settings.md" in refused.value.fix


def test_what_is_shown_names_the_source_and_hides_secrets() -> None:
    environment = {
        "CHRONO_DATABASE_URL": "postgresql://u:geheim@db/x",
        "CHRONO_DATA_DIR": "/tmp/elsewhere",
    }
    rows = {
        name: (value, source)
        for name, value, source in settings.shown(settings.load(environment), environment)
    }
    assert rows["CHRONO_DATABASE_URL"] == ("(set)", "environment")
    assert rows["CHRONO_DATA_DIR"] == ("/tmp/elsewhere", "environment")
    assert rows["CHRONO_ARCHIVES__WAYBACK__CDX_PER_MINUTE"] == ("24", "default")
    assert "geheim" not in repr(rows)
    assert "geheim" not in repr(settings.load(environment))


def test_what_a_url_holds_to_let_its_reader_in_is_not_shown() -> None:
    environment = {
        "CHRONO_MEILISEARCH_URL": "http://proxy:geheim@meili:7700",
        "CHRONO_MEILISEARCH_KEY": "0123456789abcdef",
        "CHRONO_ARCHIVES__PYWB__URL": "http://u:ge@heim@pywb/c/@me?a=1&api_key=geheim",
        "CHRONO_BLOBS_URL": "az://c?sv=1&SIG=geheim%3D&se=2",
        "CHRONO_EXPORTS_URL": "s3://geheim@bucket/a?secret_access_key=geheim",
    }
    rows = {n: v for n, v, _ in settings.shown(settings.load(environment), environment)}
    assert rows["CHRONO_MEILISEARCH_URL"] == "http://(set)@meili:7700"
    assert rows["CHRONO_ARCHIVES__PYWB__URL"] == "http://(set)@pywb/c/@me?a=1&api_key=(set)"
    assert rows["CHRONO_BLOBS_URL"] == "az://c?sv=1&SIG=(set)&se=2"
    assert rows["CHRONO_EXPORTS_URL"] == "s3://(set)@bucket/a?secret_access_key=(set)"


def test_the_data_folder_is_absolute() -> None:
    assert settings.load({"CHRONO_DATA_DIR": "here"}).data_dir == Path.cwd() / "here"


def test_a_warc_path_is_absolute_because_actors_work_elsewhere() -> None:
    loaded = settings.load({"CHRONO_ARCHIVES__WARC__URL": "file://crawl.warc.gz"})
    assert loaded.archives.warc.url == str(Path.cwd() / "crawl.warc.gz")


def test_the_user_agent_names_the_project_and_the_contact() -> None:
    agent = settings.load({"CHRONO_CONTACT": "me@example.org"}).user_agent
    assert agent.startswith("chrono_ray/")
    assert "me@example.org" in agent


def test_loading_from_a_given_environment_leaves_the_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHRONO_EGRESS", "ours")
    assert settings.load({"CHRONO_EGRESS": "theirs"}).egress == "theirs"
    assert settings.load().egress == "ours"


def test_common_crawl_defaults_stay_below_what_its_index_bans() -> None:
    crawl = settings.load({}).archives.commoncrawl
    assert (crawl.cdx_per_minute, crawl.replay_per_minute) == (8, 60)
    assert crawl.is_public
    mirror = {"CHRONO_ARCHIVES__COMMONCRAWL__DATA_URL": "http://127.0.0.1:9000"}
    assert not settings.load(mirror).archives.commoncrawl.is_public


KEY = "a-key-that-nobody-guesses"


def kept(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("mode", [0o600, 0o440])
def test_a_secret_may_be_in_a_file_and_is_spelled_out_for_other_processes(
    tmp_path: Path, mode: int
) -> None:
    environment = {
        "CHRONO_MEILISEARCH_URL": "http://m:7700",
        "CHRONO_MEILISEARCH_KEY_FILE": kept(tmp_path, f"{KEY}\n", mode),
    }
    loaded = settings.load(environment)
    assert loaded.meilisearch_key is not None
    assert loaded.meilisearch_key.get_secret_value() == KEY
    sources = {name: source for name, _, source in settings.shown(loaded, environment)}
    assert sources["CHRONO_MEILISEARCH_KEY"] == "file"
    handed_on = wiring.child_environment(loaded, environment)
    assert "CHRONO_MEILISEARCH_KEY_FILE" not in handed_on
    assert settings.load(handed_on) == loaded


def test_the_process_s_own_environment_may_name_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHRONO_DATABASE_URL_FILE", kept(tmp_path, "postgresql://u:geheim@db/x"))
    found = settings.load().database_url
    assert found is not None
    assert found.get_secret_value() == "postgresql://u:geheim@db/x"


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (" \n", 0o600, "is empty"),
        (KEY, 0o644, "open to everybody"),
        (KEY, 0o602, "open to everybody"),
        ("short", 0o600, "too weak"),
    ],
)
def test_a_secret_file_that_keeps_none_is_refused_and_not_shown(
    tmp_path: Path, text: str, mode: int, why: str
) -> None:
    environment = {
        "CHRONO_MEILISEARCH_URL": "http://m:7700",
        "CHRONO_MEILISEARCH_KEY_FILE": kept(tmp_path, text, mode),
    }
    with pytest.raises(SettingsError, match=why) as caught:
        settings.load(environment)
    told = f"{caught.value} {caught.value.why}"
    assert "CHRONO_MEILISEARCH_KEY" in told
    assert not text.strip() or text not in told


def test_a_secret_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CHRONO_REDIS_URL_FILE") as caught:
        settings.load({"CHRONO_REDIS_URL_FILE": str(tmp_path / "none")})
    assert str(tmp_path / "none") in caught.value.why
    assert caught.value.fix


def test_a_secret_is_said_once() -> None:
    both = {"CHRONO_REDIS_URL": "redis://r/0", "CHRONO_REDIS_URL_FILE": "/run/secrets/redis_url"}
    with pytest.raises(SettingsError, match="both set"):
        settings.load(both)


def test_every_secret_can_come_from_a_file() -> None:
    secrets = {
        f"CHRONO_{name.upper()}_FILE"
        for name, field in settings.Settings.model_fields.items()
        if "SecretStr" in repr(field.annotation)
    }
    assert secrets == set(settings.BY_FILE)


def test_a_head_for_others_needs_what_others_can_reach() -> None:
    with pytest.raises(SettingsError, match="CHRONO_MEILISEARCH_URL") as refused:
        settings.load({"CHRONO_RAY_HOST": "10.0.0.1"})
    assert refused.value.why.startswith("CHRONO_RAY_HOST is for several machines")
    with pytest.raises(SettingsError, match="CHRONO_RAY_HOST"):
        settings.load({"CHRONO_RAY_HOST": "10.0.0.1", "CHRONO_RAY_ADDRESS": "10.0.0.2:6379"})


def test_a_password_that_a_url_cannot_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as told:
        settings.load({"CHRONO_REDIS_URL": "redis://:geheim/wort@127.0.0.1:6379/0"})
    assert "CHRONO_REDIS_URL" in str(told.value)
    assert "%2F" in str(told.value)
    assert "geheim" not in str(told.value)
    assert settings.load({"CHRONO_REDIS_URL": "redis://:geheim%2Fwort@127.0.0.1/0"}).redis_url
