"""TensorRT: a version's plan, built once for each kind of GPU and kept, and its batches on the GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from engines.artifact import Artifact
from engines.cuda import CudaGpu
from engines.driver import find_driver
from engines.external import external_files
from engines.gpu import Gpu
from engines.gpu_engine import MAX_BATCH, GpuEngine
from engines.gpu_runner import GpuRunner
from engines.plans import Key, Plans
from engines.profiles import Sizes, make_profiles
from engines.trt_build import Plan, Recipe, Watcher, build
from engines.trt_inspect import Inspection
from engines.trt_kernel import TRT_DTYPES, PlanRefused, TrtKernel
from engines.trt_library import RTX, Library, find
from headrace.errors import ArtifactRejected, ConfigRejected, EngineUnavailable

_log = logging.getLogger(__name__)

PLANS = "HEADRACE_PLANS"  # the environment's name for the folder of built plans
_FP8 = 8.9  # the first compute capability with it
_CUDA = {RTX: "13.0"}  # the least that the driver must run; TensorRT itself says so when it is too old


class TensorRtEngine(GpuEngine):
    """A model in TensorRT."""

    def __init__(
        self,
        artifact: Artifact,
        max_batch: int = MAX_BATCH,
        buckets: Sequence[Sizes] = (),
        plans: Plans | None = None,
        gpu: Gpu | None = None,
        gpu_share: float = 1.0,
        watcher: Watcher | None = None,
    ) -> None:
        """`gpu_share` is the part of the GPU's memory that it may take.

        EngineUnavailable when there is no TensorRT, no driver that it works with, no GPU or no room on it.
        """
        library = find()
        driver = find_driver(least=_CUDA.get(library.name, "0.0"))
        device = driver.devices[0]
        recipe = recipe_of(library, artifact, device.architecture, max_batch, buckets)
        self._gpu = gpu or CudaGpu()
        self._share_bytes = device.part(gpu_share)

        kept = plans or plans_here()
        key = Key.of(artifact.digest, recipe, library.in_words, library.gpu(device))

        def plan() -> bytes:
            return plan_of(library, artifact, recipe, key, kept, watcher, self._share_bytes)

        known = _kept(kept, key)
        try:
            self._begin(library, artifact, recipe, known or plan(), max_batch)
        except PlanRefused as err:
            kept.drop(key)
            if known is None:
                raise
            _log.warning("%s; this one was kept, and is built anew", err)
            self._begin(library, artifact, recipe, plan(), max_batch)
        if self.inspection is not None:
            _log.info("%s in TensorRT: %s", artifact.manifest.name, self.inspection.in_words)

    def _begin(
        self, library: Library, artifact: Artifact, recipe: Recipe, plan: bytes, max_batch: int
    ) -> None:
        self._kernel = TrtKernel(library, plan, artifact.manifest.signature, recipe.profiles)
        by_itself = library.name == RTX  # makes its graphs
        runner = GpuRunner(self._gpu, self._kernel, budget_bytes=self._share_bytes, uses_graphs=not by_itself)
        super().__init__(artifact, max_batch, runner)

    @property
    def inspection(self) -> Inspection | None:
        """Of the plan's layers, if the library tells of them."""
        return self._kernel.inspection


def plans_here() -> Plans:
    """Where this user's plans are kept: HEADRACE_PLANS, else in the user's cache."""
    folder = os.environ.get(PLANS)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Plans(Path(folder) if folder else cache / "headrace" / "plans")


def recipe_of(
    library: Library, artifact: Artifact, architecture: str, max_batch: int, buckets: Sequence[Sizes]
) -> Recipe:
    """How a version's plan is built for batches of these sizes. EngineUnavailable for a GPU that lacks the
    version's precision."""
    told = f"'{artifact.manifest.name}/{artifact.manifest.version}'"
    if artifact.manifest.precision.startswith("fp8") and float(architecture) < _FP8:
        raise EngineUnavailable(
            f"{told} is in FP8, which GPUs from compute capability {_FP8} on have, and not {architecture}: "
            "publish a version in INT8 for these"
        )
    signature = artifact.manifest.signature
    known = set(TRT_DTYPES.values())
    if others := [
        f"{spec.name}: {spec.dtype}"
        for spec in (*signature.inputs, *signature.outputs)
        if spec.dtype not in known
    ]:
        raise ArtifactRejected(
            f"{told} takes or gives {', '.join(others)}; "
            f"TensorRT has {', '.join(sorted(known))}: publish it for onnxruntime"
        )
    profiles = make_profiles(signature, max_batch, buckets)
    # Sparse or not is seen by the library itself, from the weights, where it may look.
    return Recipe(profiles, (architecture,) if library.architectures else (), is_sparse=True)


def _kept(plans: Plans, key: Key) -> bytes | None:
    """None where there is none, or where others may write into the folder."""
    try:
        return plans.get(key)
    except ConfigRejected:
        return None  # `plan_of` says so, if one has to be built


def plan_of(
    library: Library,
    artifact: Artifact,
    recipe: Recipe,
    key: Key,
    plans: Plans,
    watcher: Watcher | None = None,
    workspace_bytes: int | None = None,
) -> bytes:
    """A version's plan, built now, and kept.

    Where others may write into the folder of plans nothing is taken from it, nor put there; where nothing
    can be written the plan is there all the same.
    """
    manifest = artifact.manifest
    told = f"the plan of {manifest.name}/{manifest.version} for {key.gpu}"
    try:
        before = plans.timing_cache(key.library, key.gpu)
    except ConfigRejected as err:
        _log.warning("building %s at every start: %s", told, err)
        return build_plan(library, artifact, recipe, watcher, workspace_bytes=workspace_bytes).data
    _log.info("building %s", told)
    plan = build_plan(library, artifact, recipe, watcher, before, workspace_bytes)
    try:
        plans.put(key, plan.data)
        plans.put_timing_cache(key.library, key.gpu, plan.timing_cache)
    except (ConfigRejected, OSError) as err:
        _log.warning("%s is built, but cannot be kept: %s", told, getattr(err, "strerror", None) or err)
    return plan.data


def build_plan(
    library: Library,
    artifact: Artifact,
    recipe: Recipe,
    watcher: Watcher | None = None,
    timing_cache: bytes = b"",
    workspace_bytes: int | None = None,
) -> Plan:
    """A version's plan, from verified bytes only."""
    manifest = artifact.manifest
    graph = artifact.read(manifest.graph)
    if weights := external_files(graph, manifest.graph_files().keys()):
        raise ArtifactRejected(
            f"'{manifest.graph}' of '{manifest.name}/{manifest.version}' keeps weights in {sorted(weights)}, "
            "which TensorRT cannot take verified; publish a single file"
        )
    return build(library, graph, manifest.signature, recipe, watcher, timing_cache, workspace_bytes)
