"""A compiled package's code, called by its C interface: torch's own binding keeps Python's lock for the whole
of a batch, and nothing else of the process would run meanwhile, the event loop included."""

from __future__ import annotations

import _ctypes
import ctypes
import io
import json
import logging
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.aot_package import METADATA, not_loaded
from engines.artifact import Artifact
from headrace.errors import ArtifactRejected, EngineFailed, EngineUnavailable

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_Handle = ctypes.c_void_p
_Handles = ctypes.POINTER(_Handle)
_SIGNATURES: dict[str, list[Any]] = {
    "CreateWithDevice": [_Handles, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_char_p],
    "Run": [_Handle, _Handles, ctypes.c_size_t, _Handles, ctypes.c_size_t, _Handle, _Handle],
    "GetNumInputs": [_Handle, ctypes.POINTER(ctypes.c_size_t)],
    "GetNumOutputs": [_Handle, ctypes.POINTER(ctypes.c_size_t)],
    "GetCallSpec": [_Handle, ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p)],
    "Delete": [_Handle],
}
_CODE, _NODES = ".so", ".json"  # in a package


class Container:
    """Code for the CPU. `run` may be called from several threads; `streams` of them are served at once."""

    def __init__(self, artifact: Artifact, streams: int) -> None:
        """From verified bytes; ArtifactRejected when this release of torch does not take them."""
        import torch  # noqa: F401  the code is linked to its libraries

        manifest = artifact.manifest
        self._container = _Handle()
        self._lock = threading.Lock()
        self._running = 0
        self._is_open = True
        self._library: ctypes.CDLL | None = None
        told = f"'{manifest.graph}' of '{manifest.name}/{manifest.version}'"
        signature = manifest.signature
        try:
            code = _code(artifact.read(manifest.graph))
            with tempfile.NamedTemporaryFile(suffix=_CODE) as file:
                file.write(code)
                file.flush()
                self._library = ctypes.CDLL(file.name)
                self._call("CreateWithDevice", ctypes.byref(self._container), streams, b"cpu", None)
            self.inputs = self._names()
            self._num_outputs = self._count("GetNumOutputs")
            is_it = sorted(self.inputs) == sorted(spec.name for spec in signature.inputs)
            counts = self._count("GetNumInputs"), self._num_outputs
            if not is_it or counts != (len(signature.inputs), len(signature.outputs)):
                raise ArtifactRejected(
                    f"{told} takes {', '.join(self.inputs)} and gives {self._num_outputs} outputs; its "
                    "manifest tells of others"
                )
        except ArtifactRejected:
            self.close()
            raise
        except OSError as err:
            self.close()
            raise EngineUnavailable(
                f"{told} cannot be run from this machine's temporary folder "
                f"({err.strerror or 'it does not load'}); it needs room there, and none mounted noexec"
            ) from err
        except (zipfile.BadZipFile, AttributeError, EngineFailed, ValueError, LookupError, TypeError) as err:
            self.close()
            raise not_loaded(artifact, err) from err

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
        if self._is_open or self._running or self._library is None:
            return
        if self._container:
            self._call("Delete", self._container)
            self._container = _Handle()
        _ctypes.dlclose(self._library._handle)
        self._library = None

    def _names(self) -> list[str]:
        """Of the inputs, in the order in which the code takes them: keys of the dict it was exported with."""
        given, returned = ctypes.c_char_p(), ctypes.c_char_p()
        self._call("GetCallSpec", self._container, ctypes.byref(given), ctypes.byref(returned))
        arguments = json.loads(given.value or b"")[1]["children_spec"][0]
        names: list[str] = json.loads(arguments["children_spec"][0]["context"])
        return names

    def _count(self, name: str) -> int:
        found = ctypes.c_size_t()
        self._call(name, self._container, ctypes.byref(found))
        return found.value

    def _call(self, name: str, *arguments: Any) -> None:
        """EngineFailed when the code says that it failed; why is for the log."""
        assert self._library is not None
        function = getattr(self._library, f"AOTInductorModelContainer{name}")
        function.argtypes, function.restype = _SIGNATURES[name], ctypes.c_int
        if function(*arguments):
            why = ctypes.c_char_p()
            self._library.AOTInductorGetLastError(ctypes.byref(why))
            _log.error("compiled code failed (%s): %s", name, (why.value or b"").decode(errors="replace"))
            raise EngineFailed("the engine failed on this batch (compiled code)")


def _code(package: bytes) -> bytes:
    """The shared library in a package; KeyError when there is none, ArtifactRejected when it calls operators
    that only torch's own way of running it knows."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = archive.namelist()
        if any(name.endswith(_NODES) and not name.endswith(METADATA) for name in names):
            raise ArtifactRejected(
                "the model has operators that its compiled code has torch run; leave it on onnxruntime"
            )
        (code,) = [name for name in names if name.endswith(_CODE)]
        return archive.read(code)


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
