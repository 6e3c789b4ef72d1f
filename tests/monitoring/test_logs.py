"""Lines of JSON, and which requests have one."""

import json
import logging
import sys
from dataclasses import replace

import pytest

from headrace.config import LogsConfig
from headrace.trace import TraceContext
from monitoring.finished import Finished
from monitoring.logs import Choice, JsonFormatter, level_of, line_of, printable

FINISHED = Finished(
    "minilm", "2", "grpc", 1764192000.0, 0.0125, (("queue", 0.002), ("engine", 0.01)), request_id="r1", rows=3
)


def test_a_line_tells_what_happened_and_when() -> None:
    told = json.loads(line_of(replace(FINISHED, context=TraceContext(255, 1)), "INFO", {"process": "g1"}))
    assert told["time"] == "2025-11-26T21:20:00.012Z"
    assert told["trace_id"] == f"{255:032x}"
    assert told["stages_ms"] == {"queue": 2.0, "engine": 10.0}
    wanted = {"model": "minilm", "version": "2", "rows": 3, "took_ms": 12.5, "status": 200, "process": "g1"}
    assert wanted.items() <= told.items()


def test_a_line_is_one_line_whatever_a_caller_calls_itself() -> None:
    line = line_of(replace(FINISHED, request_id='a\n"b'), "INFO", {})
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize(
    ("status", "took_s", "level"),
    [(200, 0.1, "INFO"), (200, 0.3, "WARNING"), (429, 0.1, "WARNING"), (503, 0.1, "ERROR")],
)
def test_the_level_says_whose_fault_it_is(status: int, took_s: float, level: str) -> None:
    assert level_of(replace(FINISHED, status=status, took_s=took_s), 0.25) == level


@pytest.mark.parametrize(
    ("requests", "quick", "slow", "failed"),
    [
        ("none", False, False, False),
        ("errors", False, False, True),
        ("slow", False, True, True),
        ("all", True, True, True),
    ],
)
def test_which_requests_have_a_line(requests: str, quick: bool, slow: bool, failed: bool) -> None:
    choice = Choice(LogsConfig.model_validate({"requests": requests, "slower_than_ms": 100.0}))
    assert choice.is_any is (requests != "none")
    assert [choice.takes(0.01, 200), choice.takes(0.2, 200), choice.takes(0.01, 429)] == [quick, slow, failed]


def test_a_sample_never_leaves_out_what_is_slow_or_failed() -> None:
    config = LogsConfig.model_validate({"requests": "all", "sample": 0.1, "slower_than_ms": 100.0})
    choice = Choice(config, iter([0.05, 0.1, 0.99]).__next__)
    assert [choice.takes(0.01, 200) for _ in range(3)] == [True, False, False]
    assert choice.takes(0.2, 200)
    assert choice.takes(0.01, 500)


def test_a_record_of_the_program_is_one_line_with_its_exception() -> None:
    try:
        raise ValueError("what was wrong")
    except ValueError:
        record = logging.LogRecord("deployments.x", 40, "x.py", 1, "it %s", ("failed",), sys.exc_info())
    text = JsonFormatter({"process": "gateway"}).format(record)
    told = json.loads(text)
    assert "\n" not in text
    assert (told["level"], told["message"], told["process"]) == ("ERROR", "it failed", "gateway")
    assert told["exception"].rstrip().endswith("ValueError: what was wrong")


def test_a_callers_id_is_bounded_and_printable() -> None:
    assert printable("order-7") == "order-7"
    assert printable("x" * 1000) == "x" * 128
    assert printable("a\x00b\u00e9\n") == "a?b??"
