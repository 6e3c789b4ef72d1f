"""Ranges that name what a thread is at, for the tools that draw them: NVTX, ITT, torch.

Nobody marks anything unless a profile asks for it; where ranges are used, `None` stands for off.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol

from headrace.errors import ToolFailed

DOMAIN = "headrace"
INSTALL = "pip install 'headrace[profile]'"


class Ranges(Protocol):
    """Context managers around work; names are few, since tools keep each of them."""

    def within(self, name: str) -> AbstractContextManager[object]:
        """Work of one thread, inside whatever else that thread has begun."""
        ...

    def across(self, name: str) -> AbstractContextManager[object]:
        """What overlaps with others of its kind, such as a request."""
        ...


class NvtxRanges:
    """For Nsight Systems and Nsight Compute. ToolFailed where the library is missing."""

    def __init__(self) -> None:
        try:
            import nvtx
        except ImportError as err:
            raise _missing("nvtx", err) from err
        self._domain: Any = nvtx.get_domain(DOMAIN)
        self._kept: dict[str, _Pair] = {}

    def within(self, name: str) -> AbstractContextManager[object]:
        kept = self._kept.get(name)
        if kept is None:
            attributes = self._domain.get_event_attributes(message=name)
            kept = self._kept[name] = _Pair(
                self._domain.push_range, (attributes,), self._domain.pop_range, ()
            )
        return kept

    def across(self, name: str) -> AbstractContextManager[object]:
        return _Handed(self._domain, self._domain.get_event_attributes(message=name))


class IttRanges:
    """Tasks for VTune. ToolFailed where the library is missing."""

    def __init__(self) -> None:
        try:
            import ittapi
        except ImportError as err:
            raise _missing("ittapi", err) from err
        self._itt: Any = ittapi
        self._domain: Any = ittapi.domain(DOMAIN)
        self._kept: dict[str, _Pair] = {}

    def within(self, name: str) -> AbstractContextManager[object]:
        kept = self._kept.get(name)
        if kept is None:
            begun = (self._domain, self._itt.string_handle(name))
            kept = _Pair(self._itt.task_begin, begun, self._itt.task_end, (self._domain,))
            self._kept[name] = kept
        return kept

    def across(self, name: str) -> AbstractContextManager[object]:
        task: AbstractContextManager[object] = self._itt.overlapped_task(name, self._domain)
        return task


class TorchRanges:
    """Ranges in torch.profiler's trace, which has no place for those that overlap on a thread. ToolFailed
    where torch is missing."""

    def __init__(self) -> None:
        try:
            from torch.profiler import record_function
        except ImportError as err:
            raise _missing("torch", err) from err
        self._record: Any = record_function

    def within(self, name: str) -> AbstractContextManager[object]:
        entered: AbstractContextManager[object] = self._record(name)
        return entered

    def across(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


class _Pair:
    """A call before and a call after; it keeps nothing, so that all threads may share it."""

    __slots__ = ("_begin", "_begun", "_end", "_ended")

    def __init__(self, begin: Any, begun: tuple[Any, ...], end: Any, ended: tuple[Any, ...]) -> None:
        self._begin, self._begun, self._end, self._ended = begin, begun, end, ended

    def __enter__(self) -> None:
        self._begin(*self._begun)

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(*self._ended)


class _Handed:
    """A range that is ended by what its start has given."""

    __slots__ = ("_attributes", "_domain", "_handle")

    def __init__(self, domain: Any, attributes: Any) -> None:
        self._domain, self._attributes = domain, attributes

    def __enter__(self) -> None:
        self._handle = self._domain.start_range(self._attributes)

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._domain.end_range(self._handle)


def _missing(library: str, err: ImportError) -> ToolFailed:
    how = "pip install torch" if library == "torch" else INSTALL.replace("headrace[profile]", library)
    return ToolFailed(f"'{library}' is missing where the model runs ({err.msg}); install it there: {how}")
