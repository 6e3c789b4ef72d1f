"""Ask by an unmodified `tritonclient.grpc`: which of a few sentences means most nearly the same?

python -m examples.triton_grpc_client 127.0.0.1:9000
"""

from __future__ import annotations

import sys

import tritonclient.grpc as triton

from examples.minilm.data import tokenize
from examples.triton_client import ANSWERS, QUESTION
from headrace.tensors import Array


def embed(client: triton.InferenceServerClient, text: str) -> Array:
    """The embedding of one text, (384,)."""
    inputs = []
    for name, array in tokenize(text).items():
        tensor = triton.InferInput(name, array.shape, "INT64")
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    embedding: Array = client.infer("minilm", inputs).as_numpy("embedding")[0]
    return embedding


def main(target: str) -> None:
    client = triton.InferenceServerClient(target)
    question = embed(client, QUESTION)
    for answer in ANSWERS:
        print(f"{question @ embed(client, answer):.2f}  {answer}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000")
