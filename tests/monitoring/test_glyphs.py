"""Figures as text keep their width and their meaning."""

from __future__ import annotations

import pytest

from monitoring import glyphs


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "-"),
        (0.0000123, "12.3 us"),
        (0.00421, "4.21 ms"),
        (0.0999, "99.9 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.00 s"),
        (75.0, "75.0 s"),
    ],
)
def test_a_time_has_three_digits_and_a_unit(value: float | None, told: str) -> None:
    assert glyphs.seconds(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(None, "-"), (0.0, "0.00"), (9.999, "10.0"), (120.4, "120"), (12345.0, "12,345")]
)
def test_a_rate_has_three_digits_or_whole_thousands(value: float | None, told: str) -> None:
    assert glyphs.rate(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(None, "-"), (0.0, "0%"), (0.00012, "0.012%"), (0.034, "3.4%"), (1.0, "100%")]
)
def test_a_small_share_is_not_rounded_to_nothing(value: float | None, told: str) -> None:
    assert glyphs.percent(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (300_000_000, "286 MiB")]
)
def test_bytes_have_the_largest_unit_of_which_there_is_one(value: int, told: str) -> None:
    assert glyphs.size(value) == told


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.001, 0.5, 0.999, 1.0, 7.0])
def test_a_bar_is_as_wide_as_asked_for(share: float) -> None:
    assert len(glyphs.bar(share, 10)) == 10


def test_what_is_not_zero_shows() -> None:
    assert glyphs.bar(0.0, 4) == "    "
    assert glyphs.bar(1e-6, 4) == "▏   "
    assert glyphs.bar(0.5, 4) == "██  "


def test_a_curve_has_gaps_where_nothing_is_known() -> None:
    assert glyphs.curve([0.0, None, 4.0, 8.0], 4) == "▁ ▅█"
    assert glyphs.curve([1.0, 2.0], 4) == "  ▅█"
    assert glyphs.curve([9.0, 1.0, 1.0], 2) == "██"
    assert glyphs.curve([0.0, 0.0], 2) == "▁▁"
    assert glyphs.curve([], 3) == "   "
