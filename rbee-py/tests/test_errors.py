"""Errors: their classes, messages, and what is refused before anything happens."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import rbee
from rbee import _rbee, errors


def test_every_kind_of_error_has_a_class() -> None:
    classes = {getattr(errors, name).kind: getattr(errors, name) for name in errors.__all__ if name != "RbeeError"}
    kinds = _rbee.error_kinds()
    assert {kind for kind, _, _ in kinds} == set(classes)
    for kind, _, is_retryable in kinds:
        assert classes[kind].is_retryable is is_retryable
        assert issubclass(classes[kind], rbee.RbeeError)
        assert str(classes[kind]("what happened")) == "what happened"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (rbee.ModelNotFound, KeyError),
        (rbee.NotFound, KeyError),
        (rbee.InvalidRequest, ValueError),
        (rbee.JobTimeout, TimeoutError),
        (rbee.QueueTimeout, TimeoutError),
        (rbee.PermissionDenied, PermissionError),
        (rbee.HiveUnreachable, ConnectionError),
    ],
)
def test_errors_are_builtins_where_one_fits(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)


def test_an_unknown_model_says_what_is_allowed(queen: rbee.Queen) -> None:
    with pytest.raises(KeyError, match="the model nope is not known here") as caught:
        queen.submit(model="nope", prompt="Hi")
    assert isinstance(caught.value, rbee.ModelNotFound)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": "Hi", "temperature": 3.0}, rbee.InvalidRequest, "temperature is 3; allowed is 0 to 2"),
        ({"prompt": "Hi", "temperature": "hot"}, TypeError, "temperature is 'hot'"),
        ({"prompt": "Hi", "max_tokens": -1}, TypeError, "max_tokens is -1"),
        ({"prompt": "Hi", "messages": []}, TypeError, "either messages or prompt"),
        ({}, TypeError, "either messages or prompt"),
        ({"messages": [{"role": "bee", "content": "Hi"}]}, TypeError, "role is .bee"),
        ({"messages": [{"role": "user"}]}, TypeError, "a message has no content"),
        ({"messages": ["Hi"]}, TypeError, "a mapping with role and content"),
        ({"prompt": "Hi", "priority": "high"}, ValueError, "allowed are interactive and batch"),
        ({"prompt": "Hi", "timeout": -1.0}, ValueError, "timeout: -1 s is not a time"),
        ({"prompt": "Hi", "stop": 7}, TypeError, "stop is 7"),
        ({"prompt": "Hi", "seed": 2**64}, TypeError, "seed is"),
        ({"prompt": "Hi", "tenant": "no such name!"}, rbee.RbeeError, "tenant"),
    ],
)
def test_bad_arguments_are_named(
    queen: rbee.Queen, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        queen.submit(**arguments)


def test_settings_have_the_names_and_defaults_of_rust() -> None:
    defaults = rbee.default_settings()
    assert set(rbee.Settings.__annotations__) == set(defaults)
    assert (defaults["queue_capacity"], defaults["job_timeout"], defaults["keep_alive"]) == (1000, 300.0, None)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"queue_size": 3}, TypeError, "there is no setting queue_size"),
        ({"queue_capacity": "many"}, TypeError, "queue_capacity is"),
        ({"job_timeout": "long"}, TypeError, "job_timeout is .* allowed is a number of seconds"),
        ({"job_timeout": -1.0}, ValueError, "job_timeout"),
        ({"mode": "office"}, TypeError, "mode is"),
        ({"id": "no such name!"}, rbee.RbeeError, "id"),
        ({"scheduler": object()}, TypeError, r"place\(job, cluster\)"),
        ({"hives": ["gpu-box"]}, TypeError, "rbee.SshHive, rbee.UrlHive, or an object that has id, report"),
    ],
)
def test_bad_options_are_named(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rbee.Queen(local_hive=False, **settings).open()


def test_a_setting_reaches_the_queen() -> None:
    with rbee.Queen(local_hive=False, job_timeout=7.5, keep_alive=60, model_keep_alive={"a": 1.5}) as queen:
        settings = queen._open.settings()
    assert settings["job_timeout"] == {"secs": 7, "nanos": 500_000_000}
    assert settings["keep_alive"]["secs"] == 60
    assert settings["model_keep_alive"]["a"] == {"secs": 1, "nanos": 500_000_000}


def test_a_queen_that_is_not_open_says_so() -> None:
    queen = rbee.Queen()
    with pytest.raises(RuntimeError, match="not open"):
        queen.submit(prompt="Hi")
    with queen:
        assert "(open)" in repr(queen)
    with pytest.raises(RuntimeError, match="not open"):
        queen.status()
    queen.close()


def test_nothing_can_be_pickled(queen: rbee.Queen) -> None:
    with pytest.raises(TypeError, match="its threads and workers are in this process"):
        pickle.dumps(queen)
    with pytest.raises(TypeError, match="pass its id"):
        pickle.dumps(queen.submit(prompt="Hi", max_tokens=1))


def test_a_reachable_address_needs_a_token(queen: rbee.Queen) -> None:
    with pytest.raises(ValueError, match="a token is needed"):
        queen.serve("0.0.0.0")
    with pytest.raises(rbee.RbeeError):
        queen.serve(token="short")
