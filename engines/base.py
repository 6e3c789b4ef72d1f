"""The seam between a batch and the library that computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from headrace.tensors import Array, Signature, TensorMap


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    @property
    def signature(self) -> Signature: ...

    def warm_up(self) -> None:
        """Run the shapes of the manifest once, so that the first request does not pay for them."""

    def run(self, batch: TensorMap, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        """The named outputs of one batch (every output when none is named).

        Raises TensorRejected for values that the model cannot take, EngineFailed for anything else.
        """
        ...

    def close(self) -> None:
        """Release the model; `run` must not be called afterwards."""


@runtime_checkable
class LosableEngine(Protocol):
    """An engine that may fail for good, such as one on a GPU."""

    @property
    def is_lost(self) -> bool:
        """Whether only another process can go on."""
        ...


@runtime_checkable
class RequestEngine(Protocol):
    """An engine whose answers have sizes of their own, such as a tokenizer: it gets the requests of a batch
    one beside the other instead of stacked."""

    def run_each(self, requests: Sequence[TensorMap]) -> list[dict[str, Array]]:
        """The outputs of each request. When it raises, one of them is to blame; TensorRejected for values
        that it cannot take."""
        ...
