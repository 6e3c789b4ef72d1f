"""Who is let in; what is done there is tested on the real server (test_rollouts)."""

from __future__ import annotations

import pytest

from deployments.admin import TOKEN, Admin
from headrace.errors import Unauthorized

CONTROL = PURGE = None  # nobody gets that far


@pytest.mark.parametrize("header", ["Bearer secret", "bearer secret", "Bearer  secret "])
def test_the_token_opens(header: str) -> None:
    Admin(CONTROL, PURGE, {TOKEN: "secret"}).check(header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({TOKEN: "secret"}, None),
        ({TOKEN: "secret"}, ""),
        ({TOKEN: "secret"}, "secret"),
        ({TOKEN: "secret"}, "Basic secret"),
        ({TOKEN: "secret"}, "Bearer secre"),
        ({TOKEN: "secret"}, "Bearer secrets"),
        ({TOKEN: ""}, "Bearer "),
        ({}, "Bearer "),
        ({}, "Bearer anything"),
    ],
)
def test_whatever_is_wrong_is_told_in_the_same_words(environment: dict[str, str], header: str | None) -> None:
    with pytest.raises(
        Unauthorized, match=r"^this takes the admin token: send it as Authorization: Bearer TOKEN$"
    ):
        Admin(CONTROL, PURGE, environment).check(header)  # type: ignore[arg-type]
