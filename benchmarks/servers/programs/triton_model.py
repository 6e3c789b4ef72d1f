"""The model of a Triton server's Python backend. It is copied into Triton's repository."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        from raw_model import RawModel, Wire

        self._wire = Wire.from_environment()
        self._model = RawModel(self._wire)
        self._dtype = json.loads(args["model_config"])["parameters"]["dtype"]["string_value"]

    def execute(self, requests: list[Any]) -> list[Any]:
        rows = [
            triton.get_input_tensor_by_name(request, self._wire.tensor)
            .as_numpy()
            .reshape(self._wire.shape)  # a batch of one, when Triton batches
            for request in requests
        ]
        return [
            triton.InferenceResponse(
                [triton.Tensor(self._wire.output, np.frombuffer(answer, self._dtype)[None])]
            )
            for answer in self._model.run(rows)
        ]
