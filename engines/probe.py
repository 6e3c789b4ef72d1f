"""Whether an engine works on this machine, found out in a process of its own: some die by a signal
on processors they do not know."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from headrace.guard import guarded

_INSTALL = {
    "openvino": "pip install openvino",
    "tensorrt": "pip install tensorrt, on a machine with an NVIDIA GPU",
}
_MISSING = 3  # exit status
# Doubles three numbers on the engine; the answer decides.
_PROGRAMS = {
    "onnxruntime": "import onnxruntime",
    "openvino": (
        "import numpy as np, openvino as ov, openvino.opset13 as op\n"
        "x = op.parameter([3], np.float32)\n"
        "model = ov.Model([op.add(x, x)], [x])\n"
        "found = ov.Core().compile_model(model, 'CPU')(np.arange(3, dtype=np.float32))[0]\n"
        "assert found.tolist() == [0, 2, 4], found\n"
    ),
    "tensorrt": (
        "import tensorrt\n"
        "from pycuda import driver\n"
        "driver.init()\n"
        "assert driver.Device.count() > 0, 'no GPU'\n"
        "assert tensorrt.Builder(tensorrt.Logger()) is not None\n"
    ),
}


def probe(engine: str, timeout_s: float = 60.0) -> str:
    """Nothing when the engine computes a tiny model here, else the reason why not, in words."""
    if engine not in _PROGRAMS:
        return f"there is no engine {engine!r}; there are: {', '.join(_PROGRAMS)}"
    program = (
        f"import sys\ntry:\n    import {engine}\nexcept ImportError as err:\n"
        f"    print(err, file=sys.stderr); sys.exit({_MISSING})\n{_PROGRAMS[engine]}"
    )
    environment = {**os.environ, "OPENVINO_TELEMETRY": "0"}
    try:
        ended = subprocess.run(  # noqa: S603  our own program, no shell
            guarded(signal.SIGKILL, [sys.executable, "-c", program]),
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{engine} did not answer within {timeout_s:g} s"
    return reason(engine, ended.returncode, ended.stderr)


def reason(engine: str, status: int, said: str) -> str:
    """What an exit status of the probe means; nothing for 0."""
    if status == 0:
        return ""
    if status == _MISSING:
        return f"{engine} is not installed here; install it with: {_INSTALL.get(engine, f'pip install {engine}')}"
    if status < 0:
        return f"{engine} died by {signal.Signals(-status).name} on this processor"
    last = (said.strip().splitlines() or ["no message"])[-1]
    return f"{engine} does not work here: {last[:200]}"
