"""A file as a version of a model, as it is: an ONNX graph, or Python code to stand before one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engines.artifact import Artifact, Repository
from engines.manifest import BatchLatency, SessionOptions
from engines.python import call, module_of
from headrace.config import check_name
from headrace.errors import ConfigRejected, NotFound
from headrace.tensors import Signature
from optimize.float8 import PRECISION, SESSION, has_fp8
from optimize.graphs import files_of, signature_of

ENGINES = ("onnxruntime", "openvino", "tensorrt")  # that run a graph


def publish(
    file: Path, repository: Repository, name: str, version: str | None = None, engine: str | None = None
) -> Artifact:
    """The next version of the model `name`, unless one is given; ConfigRejected says what is wrong with the
    file, ArtifactRejected in which line of it."""
    check_model_name(name)
    if engine is not None and file.suffix == ".py":
        raise ConfigRejected(f"{file.name!r} is Python code, which runs in Python; leave --engine out")
    check_engine(engine or ENGINES[0])
    if not file.is_file():
        raise ConfigRejected(f"{file.name!r} is not a file; give an ONNX graph or a Python file")
    version = version or next_version(repository, name)
    if file.suffix == ".py":
        return _publish_code(file, repository, name, version)
    return _publish_graph(file, repository, name, version, engine or ENGINES[0])


def publish_again(
    repository: Repository,
    of: str,
    engine: str | None,
    version: str | None = None,
    into: Repository | None = None,
) -> Artifact:
    """The version NAME/VERSION once more, to be run by another engine, in the same repository unless another
    is given; ConfigRejected when that cannot be."""
    name, _, old = of.partition("/")
    if not old or Path(of).is_file() or "/" in old:
        raise ConfigRejected(
            f"{of[:64]!r}: give a file and --name, or NAME/VERSION of a published version and --engine"
        )
    source = repository.open(name, old)
    manifest = source.manifest
    if manifest.engine not in ENGINES:
        raise ConfigRejected(
            f"'{name}/{old}' is code for {manifest.engine}, which no other engine runs; a graph is what "
            f"{', '.join(ENGINES)} run"
        )
    if engine is None or engine == manifest.engine:
        raise ConfigRejected(
            f"'{name}/{old}' is published for {manifest.engine} already; --engine names another of "
            f"{', '.join(ENGINES)}"
        )
    check_engine(engine)
    if manifest.precision == PRECISION:
        _check_fp8(f"'{name}/{old}'", engine)
    target = into or repository
    return target.publish(
        name,
        version or next_version(target, name),
        {file: source.folder / file for file in manifest.graph_files()},
        graph=manifest.graph,
        signature=manifest.signature,
        engine=engine,
        session=_session(manifest.precision, engine),
        grouping=manifest.grouping,
        warm_up=manifest.warm_up,
        precision=manifest.precision,
        parent=old,
    )


def check_engine(engine: str) -> None:
    """ConfigRejected when it is none that runs a graph."""
    if engine not in ENGINES:
        raise ConfigRejected(f"engine {engine[:64]!r} is unknown; allowed: {', '.join(ENGINES)}")


def check_model_name(name: str) -> None:
    """ConfigRejected when no model can have it."""
    try:
        check_name(name)
    except ValueError as err:
        raise ConfigRejected(f"{name[:64]!r} is no name for a model: {err}") from err


def next_version(repository: Repository, name: str) -> str:
    try:
        versions = repository.versions(name)
    except NotFound:
        return "1"
    return str(max((int(version) for version in versions if version.isdigit()), default=0) + 1)


def republish(
    repository: Repository,
    artifact: Artifact,
    version: str,
    files: Mapping[str, Path | bytes],
    *,
    parent: str | None,
    figures: Mapping[str, float],
    latencies: tuple[BatchLatency, ...],
) -> Artifact:
    """A version that is run as `artifact` is, wherever that lies."""
    manifest = artifact.manifest
    return repository.publish(
        manifest.name,
        version,
        files,
        graph=manifest.graph,
        signature=manifest.signature,
        engine=manifest.engine,
        session=manifest.session,
        grouping=manifest.grouping,
        warm_up=manifest.warm_up,
        precision=manifest.precision,
        parent=parent,
        figures=figures,
        latencies=latencies,
    )


def _publish_code(file: Path, repository: Repository, name: str, version: str) -> Artifact:
    code = file.read_bytes()
    module = module_of(file.name, code)
    signature = call(module, file.name, "signature")
    if not isinstance(signature, Signature):
        raise ConfigRejected(f"signature() of {file.name} returned {type(signature).__name__}, no Signature")
    if not signature.is_batchable:
        raise ConfigRejected(f"{file.name}: each input and output is to begin with the dimension 'batch'")
    named = call(module, file.name, "files") if hasattr(module, "files") else []
    beside = [file.parent / path for path in named]
    if missing := [path.name for path in beside if not path.is_file()]:
        raise ConfigRejected(f"files() of {file.name} names {missing[0]!r}, which is not a file")
    files: dict[str, Path | bytes] = {path.name: path for path in beside}
    return repository.publish(
        name,
        version,
        files | {file.name: code},
        graph=file.name,
        signature=signature,
        engine="python",
        precision="code",
    )


def _publish_graph(file: Path, repository: Repository, name: str, version: str, engine: str) -> Artifact:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError) as err:
        raise ConfigRejected(f"{file.name!r} is neither an ONNX graph nor a Python file (.py)") from err
    signature = signature_of(model.graph)
    precision = PRECISION if has_fp8(model.graph) else "fp32"
    if precision == PRECISION:
        _check_fp8(repr(file.name), engine)
    return repository.publish(
        name,
        version,
        files_of(file),
        graph=file.name,
        signature=signature,
        engine=engine,
        session=_session(precision, engine),
        precision=precision,
    )


def _check_fp8(told: str, engine: str) -> None:
    if engine == "openvino":
        raise ConfigRejected(f"{told} is in FP8, which openvino has not; allowed: onnxruntime, tensorrt")


def _session(precision: str, engine: str) -> SessionOptions | None:
    """How the engine has to load it, if not as usual."""
    return SESSION if engine == "onnxruntime" and precision == PRECISION else None
