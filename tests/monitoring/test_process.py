from __future__ import annotations

import os
import time

from monitoring.process import Watch


def test_a_process_tells_what_it_takes() -> None:
    watch = Watch("here", (0,))
    end = time.monotonic() + 1.1
    while time.monotonic() < end:
        sum(range(1000))
    found = watch.look()
    assert (found.node, found.pid) == ("here", os.getpid())
    assert 0.05 < found.cpu < 2.0
    assert found.memory_bytes > 10 << 20
    assert found.threads >= 1
    assert watch.look().cpu == found.cpu  # of a whole second or more, however often somebody looks
