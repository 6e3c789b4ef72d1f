"""What engines on a GPU have in common: batches of any number of rows through a runner that takes so many."""

from __future__ import annotations

import logging

import numpy as np

from engines.artifact import Artifact
from engines.examples import example_inputs
from engines.gpu_runner import DEPTH, GpuRunner
from engines.profiles import BATCH
from headrace.errors import TensorRejected
from headrace.tensors import Array, Signature, TensorMap

_log = logging.getLogger(__name__)
MAX_BATCH = 32  # rows, when nothing else is said
_WARM_UPS = 2 * DEPTH  # of a shape: in each slot as it is, and to be captured


class GpuEngine:
    """Two batches on the GPU at a time; one of more than `max_batch` rows is run in parts."""

    def __init__(self, artifact: Artifact, max_batch: int, runner: GpuRunner) -> None:
        """EngineUnavailable when there is no GPU, or too little memory of it."""
        self._signature = artifact.manifest.signature
        self._warm_up = artifact.manifest.warm_up
        self._max_batch = max_batch if self._signature.is_batchable else None
        self._runner = runner
        runner.start()

    @property
    def signature(self) -> Signature:
        return self._signature

    def warm_up(self) -> None:
        for sizes in self._warm_up:
            try:
                for _ in range(_WARM_UPS):
                    self.run(example_inputs(self._signature, sizes))
            except TensorRejected as err:  # examples may be larger than the configuration's buckets
                _log.info("not warmed up with %s: %s", dict(sizes), err)

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        self._signature.check_outputs(outputs)
        rows = self._signature.check(batch).get(BATCH, 1)
        names = outputs or tuple(spec.name for spec in self._signature.outputs)
        most = self._max_batch
        if most is None or rows <= most:
            return self._runner.run(batch, names)
        found = [
            self._runner.run({name: array[at : at + most] for name, array in batch.items()}, names)
            for at in range(0, rows, most)
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in names}

    @property
    def is_lost(self) -> bool:
        """Whether only another process can go on."""
        return self._runner.is_lost

    def close(self) -> None:
        self._runner.close()
