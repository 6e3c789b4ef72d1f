"""What torch must have for a GPU's batches; what it does there is told by `test_aot_gpu.py`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from engines.gpu import DeviceFull
from engines.torch_cuda import _FULL, _There, told
from headrace.errors import EngineFailed


def test_torch_has_every_name_that_is_called_with_the_arguments_that_it_is_given() -> None:
    cuda: Any = torch.cuda
    inspect.signature(cuda.CUDAGraph.capture_begin).bind(None, object(), capture_error_mode="thread_local")
    for name in ("capture_end", "replay", "reset"):
        inspect.signature(getattr(cuda.CUDAGraph, name)).bind(None)
    inspect.signature(cuda.ExternalStream.__new__).bind(None, 1)
    inspect.signature(cuda.set_per_process_memory_fraction).bind(0.5)
    for name in (
        "graph_pool_handle",
        "memory_stats",
        "empty_cache",
        "is_available",
        "mem_get_info",
        "current_device",
    ):
        inspect.signature(getattr(cuda, name)).bind()
    inspect.signature(cuda.stream).bind(None)


def test_torchs_errors_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceFull, match="smaller batches take less"), told():
        raise torch.OutOfMemoryError("no room")
    with pytest.raises(EngineFailed, match=r"the GPU failed \(RuntimeError\)"), told():
        raise RuntimeError("compiled code failed")
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"num_ooms": 1})
    with pytest.raises(DeviceFull), told():
        raise RuntimeError("compiled code failed")  # of what it lacked it says nothing
    with pytest.raises(EngineFailed), told():
        raise RuntimeError("compiled code failed")  # not for want of memory this time
    monkeypatch.undo()
    _FULL.look()


@pytest.mark.parametrize(("item_bytes", "typestr"), [(1, "|i1"), (2, "<i2"), (4, "<i4"), (8, "<i8")])
def test_bits_at_an_address_are_told_as_integers(item_bytes: int, typestr: str) -> None:
    found = _There(256, (2, 3), item_bytes).__cuda_array_interface__
    assert found["typestr"] == typestr
    assert found["data"] == (256, False)
    assert found["shape"] == (2, 3)
