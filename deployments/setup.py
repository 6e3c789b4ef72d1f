"""How many instances a model runs in, how many batches each runs at a time and with how many threads, and
how they batch (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from batching.grouping import auto_grouping, may_pad
from engines.manifest import Manifest, Tuned
from headrace.config import BatchingConfig, Config, ModelConfig
from headrace.errors import ConfigRejected
from headrace.tensors import Signature

GIVEN, TUNED, MEASURED, DEFAULT = "configuration", "tuned", "latencies", "default"  # where a value came from
# Engines that need a GPU, and how many batches they run at a time: one computes while others are copied.
ON_GPUS = {"tensorrt": 2, "aot-cuda": 2}
# Engines whose artifacts are programs.
_CODE = {"python": "Python code", "aot": "compiled code", "aot-cuda": "compiled code"}


@dataclass(frozen=True, slots=True)
class Setup:
    """Every value that one version runs with, and where each came from."""

    instances: int  # the most, where their number follows the work
    threads: int  # of each batch
    batching: BatchingConfig  # of each instance: its grouping is decided, max_queue is its own share
    origins: Mapping[str, str]
    note: str = ""  # why a tuned set-up was not taken
    fewest: int | None = None  # where their number follows the work
    cores: int = 1  # that an instance computes on
    gpu_share: float = 0.0  # of a GPU, that an instance has

    def buckets(self, signature: Signature) -> list[dict[str, int]]:
        """The sizes that batches are padded to, for an engine that is built for certain shapes; where what
        no bucket holds runs in its own shape, the largest there may be is among them."""
        batching = self.batching
        if batching.grouping != "buckets":
            return []
        found = [dict(bucket) for bucket in batching.buckets]
        dims = set().union(*found)
        if batching.oversize == "exact" and dims <= signature.limits.keys():
            found.append({dim: signature.limits[dim] for dim in sorted(dims)})
        return found

    def told(self) -> dict[str, Any]:
        """As plain data, for `headrace status --json`."""
        keys = {"grouping", "max_batch", "max_padding", "buckets", "permits"}
        batching = self.batching.model_dump(include=keys)
        told = asdict(self) | batching
        del told["batching"]
        return told


def setup_of(model: ModelConfig, manifest: Manifest, instances: int, cores: int) -> Setup:
    """What the configuration gives; else what was tuned on a machine with as many cores; else the defaults.

    ConfigRejected when buckets are asked for and there are none, when it is code that may not run, or when
    it needs a GPU and has none.
    """
    if manifest.engine in ON_GPUS and not model.num_gpus:
        raise ConfigRejected(
            f"model {manifest.name!r} runs in {manifest.engine}, on a GPU: give it placement: replicas and "
            f"num_gpus, 1 or a part of one, or publish a version for onnxruntime"
        )
    if manifest.engine in _CODE and not model.run_code:
        raise ConfigRejected(
            f"model {manifest.name!r} is {_CODE[manifest.engine]}, which runs in the server: set run_code: "
            "true for it if you trust where it is from"
        )
    tuned, note = tuned_for(manifest, cores)
    given = set(model.batching.model_fields_set)
    if model.batching.grouping == "auto":
        given.discard("grouping")
    origins = dict.fromkeys(("threads", "permits", "grouping", "max_batch", "max_padding"), DEFAULT)
    changes: dict[str, Any] = {"max_queue": queue_share(model, instances)}

    threads = model.threads
    if "threads" in model.model_fields_set:
        origins["threads"] = GIVEN
    elif tuned and tuned.instances == instances:  # another number of them shares the cores otherwise
        threads, origins["threads"] = tuned.threads, TUNED

    if "permits" in given:
        origins["permits"] = GIVEN
    elif manifest.engine in ON_GPUS:
        changes["permits"] = ON_GPUS[manifest.engine]
    elif tuned and origins["threads"] == TUNED:  # the two divide an instance's cores
        changes["permits"], origins["permits"] = tuned.permits, TUNED

    for key in ("max_batch", "max_padding"):
        if key in given:
            origins[key] = GIVEN
        elif tuned:
            changes[key], origins[key] = getattr(tuned, key), TUNED

    if "grouping" in given:
        origins["grouping"] = GIVEN
    elif tuned:
        changes["grouping"], origins["grouping"] = tuned.grouping, TUNED
    else:
        pads = may_pad(manifest.grouping, manifest.signature)
        changes["grouping"] = auto_grouping(pads, manifest.latencies, threads)
        origins["grouping"] = MEASURED if pads and manifest.latencies else DEFAULT

    if changes.get("grouping", model.batching.grouping) == "buckets" and (
        origins["grouping"] == TUNED or not model.batching.buckets
    ):
        changes |= _learned(manifest, tuned)
    batching = model.batching.model_copy(update=changes)
    fewest = model.autoscaling.min_replicas if model.autoscaling else None
    cores = model.model_copy(update={"threads": threads, "batching": batching}).cores
    share = min(1.0, model.num_gpus)
    return Setup(instances, threads, batching, origins, note, fewest, cores, share)


def queue_share(model: ModelConfig, holders: int) -> int:
    """The part of a model's queue that each of so many holds; rounded up."""
    return max(1, -(-model.batching.max_queue // holders))


def instances_of(config: Config, model: ModelConfig) -> int:
    """The engines that a version's requests are divided over."""
    return model.max_replicas if model.placement == "replicas" else config.gateways


def tuned_for(manifest: Manifest, cores: int) -> tuple[Tuned | None, str]:
    """The tuned set-up when it was made for a machine like this one, else why it is not taken."""
    tuned = manifest.tuned
    if tuned is None:
        return None, ""
    if tuned.machine.cores != cores:
        return None, f"tuned for {tuned.machine.cores} cores, not for {cores}: run headrace tune here"
    return tuned, ""


def _learned(manifest: Manifest, tuned: Tuned | None) -> dict[str, Any]:
    if tuned is None or not tuned.buckets:
        raise ConfigRejected(
            f"model {manifest.name!r}: grouping 'buckets' needs buckets, such as [{{length: 16}}, "
            "{length: 64}], or those that headrace tune --buckets learns"
        )
    return {"buckets": [dict(bucket) for bucket in tuned.buckets], "oversize": "exact"}


def gateways_of(config: Config, manifests: Mapping[str, Manifest], cores: int) -> int:
    """As many gateways as given, else as the tuned models in them want, the most of them; else 2."""
    if "gateways" in config.model_fields_set:
        return config.gateways
    wanted = []
    for name, model in config.models.items():
        tuned, _ = tuned_for(manifests[name], cores)
        if model.placement != "inline" or tuned is None:
            continue
        if "threads" not in model.model_fields_set or model.threads == tuned.threads:
            wanted.append(tuned.instances)
    return max(wanted, default=config.gateways)


def in_words(setup: Setup | Mapping[str, Any]) -> str:
    """One line: what runs, and where that came from."""
    told = setup.told() if isinstance(setup, Setup) else setup
    threads = f"{told['threads']} thread{'s' if told['threads'] > 1 else ''}"
    count = told["instances"] if told["fewest"] is None else f"{told['fewest']} to {told['instances']}"
    streams = f"{told['permits']} batches at a time x " if told["permits"] > 1 else ""
    how = f"{count} x {streams}{threads}, grouping {told['grouping']}, batches of up to {told['max_batch']}"
    if told["grouping"] == "nearest":
        how += f", padding up to {told['max_padding']:.0%}"
    if told["grouping"] == "buckets":
        sizes = ("x".join(str(size) for size in bucket.values()) for bucket in told["buckets"])
        how += f", buckets {' '.join(sizes)}"
    kinds = {GIVEN: "given", TUNED: "as tuned", MEASURED: "by its latencies", DEFAULT: "by default"}
    by_origin: dict[str, list[str]] = {}
    for key, origin in told["origins"].items():
        is_told = told["grouping"] == "nearest" if key == "max_padding" else True
        if key == "permits":
            is_told = told["permits"] > 1
        if is_told:
            by_origin.setdefault(kinds[origin], []).append(key)
    where = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in by_origin.items())
    if len(by_origin) == 1:
        where = next(iter(by_origin))
    return f"{how} ({where})" + (f"; {told['note']}" if told["note"] else "")
