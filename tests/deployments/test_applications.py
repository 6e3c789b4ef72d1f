"""What is told of a failed application; the rest is tested on the real server (test_rollouts)."""

from __future__ import annotations

import pytest

from deployments.applications import _in_words

TRACE = """Deploying application failed: The deployment failed to start 3 times in a row.
Traceback (most recent call last):
  File "/srv/app/deployments/model.py", line 190, in __init__
    await self._host.start()
  File "/srv/app/engines/python.py", line 60, in load
    raise ArtifactRejected(f"...") from err
headrace.errors.ArtifactRejected: load() of model.py failed: RuntimeError: no weights
"""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", ""),
        (TRACE, "load() of model.py failed: RuntimeError: no weights"),
        ("ValueError: wrong", "ValueError: wrong"),
        ("no colon at all", "no colon at all"),
    ],
)
def test_a_failure_is_told_by_its_last_words_without_paths(message: str, words: str) -> None:
    assert _in_words(message) == words
