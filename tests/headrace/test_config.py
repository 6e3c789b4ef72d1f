"""A wrong key or value is named, with what is allowed."""

from pathlib import Path
from typing import Any

import pytest

from headrace.config import check_name, load_config, parse_config, variables_in, with_variables
from headrace.errors import ConfigRejected

GOOD = {"models": {"minilm": {}}}


def test_the_shortest_configuration_serves_the_newest_version_on_the_loopback() -> None:
    config = parse_config(GOOD)
    assert config.http.host == "127.0.0.1"
    assert config.grpc is None
    assert config.models["minilm"].versions == []
    assert config.models["minilm"].placement == "inline"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({**GOOD, "cahce": {}}, ["unknown key 'cahce'", "did you mean 'cache'"]),
        (
            {"models": {"m": {"batching": {"max_btch": 4}}}},
            ["'models.m.batching.max_btch'", "did you mean 'max_batch'"],
        ),
        ({"models": {"m": {"batching": {"max_batch": 0}}}}, ["models.m.batching.max_batch", "got 0"]),
        (
            {"models": {"m": {"placement": "gpu"}}},
            ["models.m.placement", "'inline'", "'replicas'", "got 'gpu'"],
        ),
        ({"models": {"m": {"threads": "two"}}}, ["models.m.threads", "got 'two'"]),
        ({"models": {"../m": {}}}, ["a name has 1 to 64", "got '../m'"]),
        ({"models": {}}, ["models", "at least 1"]),
        ({**GOOD, "http": {"port": 70000}}, ["http.port", "65535", "got 70000"]),
        ({**GOOD, "grpc": {"prt": 1}}, ["'grpc.prt'", "allowed: port", "did you mean 'port'"]),
        ({**GOOD, "grpc": {"port": 0}}, ["grpc.port", "got 0"]),
        ({**GOOD, "grpc": {"port": 8000}}, ["grpc.port and http.port are both 8000; choose two"]),
        (
            {
                "models": {
                    "m": {"placement": "replicas", "autoscaling": {"min_replicas": 4, "max_replicas": 2}}
                }
            },
            ["models.m.autoscaling: min_replicas is 4 and max_replicas is 2", "at most the second"],
        ),
        (
            {"models": {"m": {"placement": "replicas", "autoscaling": {"max_replica": 2}}}},
            ["unknown key 'models.m.autoscaling.max_replica'", "did you mean 'max_replicas'"],
        ),
        (
            {
                "models": {
                    "m": {"placement": "replicas", "autoscaling": {"max_replicas": 2, "utilization": 1.5}}
                }
            },
            ["models.m.autoscaling.utilization", "less than or equal to 1", "got 1.5"],
        ),
        (
            {"models": {"m": {"placement": "replicas", "replicas": 2, "autoscaling": {"max_replicas": 2}}}},
            ["models.m: replicas and autoscaling are both given; choose one"],
        ),
        ({"models": {"m": {"autoscaling": {"max_replicas": 2}}}}, ["models.m: autoscaling is for placement"]),
        ({"models": {"m": {"num_gpus": 1.5}}}, ["models.m: num_gpus is 1.5", "a whole number"]),
        ({}, ["models", "required"]),
        ([], ["document", "got []"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(document: object, told: list[str]) -> None:
    with pytest.raises(ConfigRejected) as caught:
        parse_config(document)
    assert all(part.lower() in str(caught.value).lower() for part in told), str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigRejected) as caught:
        parse_config({"models": {"m": {"threads": 0}}, "gateways": 0})
    assert len(str(caught.value).splitlines()) == 2


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ConfigRejected) as caught:
        parse_config({**GOOD, "cache": {"urll": "redis://user:s3cret@host/0"}})
    assert "s3cret" not in str(caught.value)
    assert "redis://***@host/0" in str(caught.value)


def test_the_repository_is_found_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("repository: shelf\nmodels: {m: {}}\n")
    assert load_config(file).repository == str(tmp_path / "shelf")


@pytest.mark.parametrize("text", ["models: [", "just words", "- a\n- b\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ConfigRejected):
        load_config(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRejected, match="no configuration file"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", ["a", "MiniLM-L6_v2.1", "x" * 64, "..a"])
def test_names_that_can_be_folders_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "x" * 65, "ä", "a b", "a\n"])
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        check_name(name)


def test_grpc_is_turned_on_by_a_word() -> None:
    grpc = parse_config({**GOOD, "grpc": {}}).grpc
    assert grpc is not None
    assert grpc.port == 9000


def test_a_url_takes_variables_in_the_quoting_of_urls() -> None:
    url = "redis://${USER_NAME}:${PASSWORD}@cache:6379/0"
    assert variables_in(url) == ["USER_NAME", "PASSWORD"]
    filled = with_variables(url, {"USER_NAME": "reader", "PASSWORD": "p@ss/word:1%"})
    assert filled == "redis://reader:p%40ss%2Fword%3A1%25@cache:6379/0"
    assert with_variables("redis://cache:6379/0", {}) == "redis://cache:6379/0"


def test_a_variable_that_is_not_set_is_named_and_nothing_else() -> None:
    with pytest.raises(ConfigRejected) as caught:
        with_variables("redis://:${PASSWORD}@secret-host/0", {"OTHER": "x"})
    assert "PASSWORD" in str(caught.value)
    assert "secret-host" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"tracing": {"rate": 1.5}}, ("tracing.rate", "less than or equal to 1", "1.5")),
        ({"tracing": {"slower_than": 5}}, ("tracing.slower_than", "kept_per_s, rate, slower_than_ms")),
        ({"tracing": {"slower_than_ms": 0.0}}, ("tracing.slower_than_ms", "greater than 0")),
        ({"logs": {"requests": "some"}}, ("logs.requests", "'none', 'errors', 'slow' or 'all'", "'some'")),
        ({"logs": {"format": "xml"}}, ("logs.format", "'text' or 'json'")),
        ({"logs": {"requests": "slow", "sample": 0.5}}, ("logs", "sample is for requests: all", '"slow"')),
    ],
)
def test_traces_and_logs_are_refused_with_the_key_and_what_is_allowed(
    document: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigRejected) as refused:
        parse_config({"models": {"m": {}}, **document})
    assert all(word in str(refused.value) for word in words), str(refused.value)
