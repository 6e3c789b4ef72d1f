"""ONNX to a TensorRT plan. The precision is the graph's own: FP16 and BF16 by casts in it, INT8 by symmetric
pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from engines.profiles import Profile
from engines.trt_library import TENSORRT, Library, log_of
from headrace.errors import ArtifactRejected, EngineFailed, HeadraceError
from headrace.tensors import Signature

_MOST_TOLD = 5  # errors of a graph


class Watcher(Protocol):
    """Is told how a build goes on, on the thread that builds."""

    def began(self, phase: str, parent: str | None, steps: int) -> None: ...

    def stepped(self, phase: str, step: int) -> bool:
        """Whether to go on."""
        ...

    def ended(self, phase: str) -> None: ...


class CancelledError(HeadraceError):
    """The watcher did not want it any more."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plan is to be. `architectures` (compute capabilities, as "8.9") are those of other GPUs than the
    one that is here; () is this one."""

    profiles: tuple[Profile, ...]
    architectures: tuple[str, ...] = ()
    is_sparse: bool = False  # look for weights with two zeros in each four, and use them
    level: int | None = None  # of optimization, 0 to 5; the library's default when None


@dataclass(frozen=True, slots=True)
class Plan:
    data: bytes
    timing_cache: bytes  # what was measured while it was built, for the next build; b"": nothing
    warnings: tuple[str, ...]


def build(
    library: Library,
    graph: bytes,
    signature: Signature,
    recipe: Recipe,
    watcher: Watcher | None = None,
    timing_cache: bytes = b"",
    workspace_bytes: int | None = None,
) -> Plan:
    """The plan of a graph, built with no more of the GPU's memory than the workspace (None: all of it).

    ArtifactRejected names the node that the library cannot take and why; EngineFailed tells what the library
    says of a build that failed; CancelledError when the watcher ends it.
    """
    trt = library.module
    log = log_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_flags(trt))
    _parse(library, trt.OnnxParser(network, log), graph)
    if not network.num_outputs:  # to the parser bytes that are no graph are an empty one
        raise ArtifactRejected(f"{library.in_words} finds no graph in these bytes")
    config = builder.create_builder_config()
    _set_options(library, config, recipe, workspace_bytes)
    for profile in recipe.profiles:
        _add_profile(library, builder, config, network, signature, profile)
    if library.name == TENSORRT:  # RTX measures nothing
        config.set_timing_cache(config.create_timing_cache(timing_cache), False)
    monitor = None if watcher is None else _monitor_of(trt, watcher)
    if monitor is not None:
        config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if built is None:
        if monitor is not None and monitor.is_cancelled:
            raise CancelledError("the build was cancelled")
        raise EngineFailed(f"{library.in_words} could not build the plan: {log.why()}")
    kept = config.get_timing_cache() if library.name == TENSORRT else None
    return Plan(bytes(built), bytes(kept.serialize()) if kept else b"", tuple(log.warnings))


def _flags(trt: Any) -> int:
    """Strongly typed: later releases know no other way."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(library: Library, parser: Any, graph: bytes) -> None:
    if parser.parse(graph):
        return
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    told = list(dict.fromkeys(_in_words(error) for error in errors))
    more = f", and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    raise ArtifactRejected(
        f"{library.in_words} cannot take the graph: {'; '.join(told[:_MOST_TOLD])}{more}. Replace these "
        "nodes, or leave the model on onnxruntime"
    )


def _in_words(error: Any) -> str:
    name, operator = str(error.node_name()), str(error.node_operator())
    where = f"node {name!r} ({operator})" if operator else f"node {name!r}" if name else "the graph"
    why = " ".join(str(error.desc()).split())
    if "zero point" in why:
        why = "its zero point is not 0; quantize the model symmetrically, to INT8"
    return f"{where}: {why}"


def _set_options(library: Library, config: Any, recipe: Recipe, workspace_bytes: int | None) -> None:
    trt = library.module
    if recipe.architectures:
        config.num_compute_capabilities = len(recipe.architectures)
        for number, dotted in enumerate(recipe.architectures):
            config.set_compute_capability(library.architecture(dotted), number)
    if recipe.is_sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    if recipe.level is not None:
        config.builder_optimization_level = recipe.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the report


def _add_profile(
    library: Library, builder: Any, config: Any, network: Any, signature: Signature, profile: Profile
) -> None:
    found = builder.create_optimization_profile()
    specs = {spec.name: spec for spec in signature.inputs}
    for number in range(network.num_inputs):
        name = network.get_input(number).name
        if name not in specs:
            raise ArtifactRejected(f"the graph takes {name!r}, which the model's signature does not name")
        found.set_shape(name, *profile.shapes(specs[name]))
    if config.add_optimization_profile(found) < 0:
        raise EngineFailed(f"{library.in_words} does not take the profile {profile.in_words()}")


def _monitor_of(trt: Any, watcher: Watcher) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # likewise
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.is_cancelled = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watcher.began(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if not self.is_cancelled:
                self.is_cancelled = not watcher.stepped(phase_name, step)
            return not self.is_cancelled

        def phase_finish(self, phase_name: str) -> None:
            watcher.ended(phase_name)

    return Monitor()
