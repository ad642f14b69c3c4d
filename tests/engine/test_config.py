from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import Settings, load_settings, parse_address
from engine.errors import ConfigError
from engine.limits import Limits
from engine.threads import available_threads


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ebr.toml"
    path.write_text(text, "utf-8")
    return path


def test_every_setting_has_a_default_and_a_description() -> None:
    settings = load_settings(environ={})

    assert settings.listen == "127.0.0.1:50051"
    assert settings.compute_threads == available_threads()
    assert all(one.description for one in Settings.model_fields.values())


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, 'encode_batch_ms = 1\nrecall_target = 0.5\nlisten = "127.0.0.1:1"')
    environ = {"EBR_RECALL_TARGET": "0.6", "EBR_LISTEN": "127.0.0.1:2"}

    settings = load_settings(path, {"listen": "127.0.0.1:3"}, environ=environ)

    assert settings.encode_batch_ms == 1.0
    assert settings.recall_target == 0.6
    assert settings.listen == "127.0.0.1:3"


def test_an_unknown_key_of_the_file_is_an_error_that_suggests_a_known_one(tmp_path: Path) -> None:
    path = _file(tmp_path, 'lissten = "127.0.0.1:1"')

    with pytest.raises(ConfigError, match=r"ebr\.toml: 'lissten' \(do you mean 'listen'\?\)"):
        load_settings(path, environ={})


def test_an_unknown_variable_is_an_error_but_those_of_other_commands_are_not() -> None:
    load_settings(environ={"EBR_TARGET": "x:1", "EBR_CONFIG": "", "EBR_DATA": "/d", "HOME": "/"})

    with pytest.raises(ConfigError, match="unknown setting in the environment: 'dataa_dir'"):
        load_settings(environ={"EBR_DATAA_DIR": "/d"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall_target", "1.5"),
        ("recall_target", "0"),
        ("compute_threads", "0"),
        ("compute_threads", "many"),
        ("device", "tpu"),
        ("listen", "50051"),
        ("listen", "localhost:99999"),
        ("metrics_listen", "localhost"),
        ("encoder_dtype", "int8"),
        ("min_rows_to_train", "-1"),
        ("max_message_bytes", "10"),
    ],
)
def test_an_unusable_value_is_named_with_its_setting_and_where_it_came_from(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: .*'{value}' from the environment") as caught:
        load_settings(environ={f"EBR_{name.upper()}": value})

    assert caught.value.violations[0].field == name


def test_an_unusable_address_is_told_in_our_words_alone() -> None:
    with pytest.raises(ConfigError, match=r"^listen: '50051' is not HOST:PORT, got '50051' from the environment$"):
        load_settings(environ={"EBR_LISTEN": "50051"})


def test_every_unusable_value_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags={"device": "tpu", "recall_target": "2"}, environ={})

    assert [one.field for one in caught.value.violations] == ["device", "recall_target"]


@pytest.mark.parametrize("text", ["listen = ", "\x00"])
def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        load_settings(_file(tmp_path, text), environ={})


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*none\.toml: No such file or directory$"):
        load_settings(tmp_path / "none.toml", environ={})


def test_the_message_limit_is_published() -> None:
    assert load_settings(environ={}).limits == Limits()
    assert load_settings(flags={"max_message_bytes": 2**21}, environ={}).limits.message_bytes == 2**21


@pytest.mark.parametrize(
    ("address", "host", "port"), [("127.0.0.1:50051", "127.0.0.1", 50051), ("[::1]:1", "::1", 1), ("h:0", "h", 0)]
)
def test_an_address_has_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert parse_address(address) == (host, port)
