"""Ask by an unmodified `tritonclient.http`: which of a few sentences means most nearly the same?

python -m examples.triton_client 127.0.0.1:8000
"""

from __future__ import annotations

import sys

import tritonclient.http as triton

from examples.minilm.data import tokenize
from headrace.tensors import Array

QUESTION = "How do I get my money back?"
ANSWERS = ["Our refund policy", "Opening hours of the store", "How to cook rice"]


def embed(client: triton.InferenceServerClient, text: str) -> Array:
    """The embedding of one text, (384,)."""
    inputs = []
    for name, array in tokenize(text).items():
        tensor = triton.InferInput(name, array.shape, "INT64")
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    embedding: Array = client.infer("minilm", inputs).as_numpy("embedding")[0]
    return embedding


def main(address: str) -> None:
    client = triton.InferenceServerClient(address)
    question = embed(client, QUESTION)
    for answer in ANSWERS:
        print(f"{question @ embed(client, answer):.2f}  {answer}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000")
