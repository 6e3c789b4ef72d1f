"""A compiled package's code, called by its C interface: torch's own binding keeps Python's lock for the whole
of a batch, and nothing else of the process would run meanwhile, the event loop included."""

from __future__ import annotations

import ctypes
import io
import json
import logging
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.artifact import Artifact
from headrace.errors import ArtifactRejected, EngineFailed

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_Handle = ctypes.c_void_p
_Handles = ctypes.POINTER(_Handle)
_SIGNATURES: dict[str, list[Any]] = {
    "CreateWithDevice": [_Handles, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p],
    "Run": [_Handle, _Handles, ctypes.c_size_t, _Handles, ctypes.c_size_t, _Handle, _Handle],
    "GetNumOutputs": [_Handle, ctypes.POINTER(ctypes.c_size_t)],
    "GetCallSpec": [_Handle, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p)],
    "Delete": [_Handle],
}


class Container:
    """Code for the CPU. `run` may be called from several threads; `streams` of them are served at once."""

    def __init__(self, artifact: Artifact, streams: int) -> None:
        """From verified bytes; ArtifactRejected when this release of torch does not take them."""
        import torch

        manifest = artifact.manifest
        self._container = _Handle()
        self._lock = threading.Lock()
        self._running = 0
        self._is_open = True
        try:
            with tempfile.NamedTemporaryFile(suffix=".so") as file:
                file.write(_code(artifact.read(manifest.graph)))
                file.flush()
                self._library = ctypes.CDLL(file.name)
                self._call("CreateWithDevice", ctypes.byref(self._container), streams, b"cpu", None)
            count = ctypes.c_size_t()
            self._call("GetNumOutputs", self._container, ctypes.byref(count))
            self._num_outputs = count.value
            self.inputs = self._names()
        except (
            OSError,
            AttributeError,
            EngineFailed,
            zipfile.BadZipFile,
            ValueError,
            LookupError,
            TypeError,
        ) as err:
            _log.exception("%s/%s cannot be loaded", manifest.name, manifest.version)
            raise ArtifactRejected(
                f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' cannot be loaded by torch "
                f"{torch.__version__} ({type(err).__name__}); compile it with this release"
            ) from err

    def run(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs in their order, for tensors in the order of `inputs`. EngineFailed when it fails."""
        from torch._C import _aoti

        with self._lock:
            if not self._is_open:
                raise EngineFailed("the engine is closed")
            self._running += 1
        try:
            given = [_address(each) for each in _aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))]
            inputs = (_Handle * len(given))(*given)  # what runs takes them over, even if it fails
            outputs = (_Handle * self._num_outputs)()
            self._call("Run", self._container, inputs, len(given), outputs, len(outputs), None, None)
            found: list[Any] = [_capsule(handle) for handle in outputs]
            made: list[torch.Tensor] = _aoti.alloc_tensors_by_stealing_from_void_ptrs(found)
            return made
        finally:
            with self._lock:
                self._running -= 1
                self._delete()

    def close(self) -> None:
        """What runs goes on to its end."""
        with self._lock:
            self._is_open = False
            self._delete()

    def _delete(self) -> None:
        if not self._is_open and not self._running and self._container:
            self._call("Delete", self._container)
            self._container = _Handle()

    def _names(self) -> list[str]:
        """Of the inputs, in the order in which the code takes them: keys of the dict it was exported with."""
        given, returned = ctypes.c_char_p(), ctypes.c_char_p()
        self._call("GetCallSpec", self._container, ctypes.byref(given), ctypes.byref(returned))
        arguments = json.loads(given.value or b"")[1]["children_spec"][0]
        names: list[str] = json.loads(arguments["children_spec"][0]["context"])
        return names

    def _call(self, name: str, *arguments: Any) -> None:
        """EngineFailed when the code says that it failed."""
        function = getattr(self._library, f"AOTInductorModelContainer{name}")
        function.argtypes, function.restype = _SIGNATURES[name], ctypes.c_int
        if function(*arguments):
            raise EngineFailed(f"compiled code failed ({name})")


def _code(package: bytes) -> bytes:
    """The shared library in a package; KeyError when there is none."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        if len(names) != 1:
            raise KeyError("code")
        return archive.read(names[0])


# Tensors go in and come out as capsules without a name, which hold the addresses that C takes.
_prototype = ctypes.PYFUNCTYPE(_Handle, ctypes.py_object, ctypes.c_char_p)
_pointer = _prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
_prototype = ctypes.PYFUNCTYPE(ctypes.py_object, _Handle, ctypes.c_char_p, _Handle)
_new = _prototype(("PyCapsule_New", ctypes.pythonapi))


def _address(capsule: object) -> int | None:
    found: int | None = _pointer(capsule, None)
    return found


def _capsule(address: int | None) -> object:
    return _new(address, None, None)
