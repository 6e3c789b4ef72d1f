"""Jobs that train a torch module: weights pruned, channels removed, a student taught.

Each leaves a module that the next step can build upon, and its graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from headrace.errors import ConfigRejected
from optimize import distill as teaching
from optimize import prune, structured
from optimize.checkpoint import Checkpoint
from optimize.export import output_names
from optimize.modules import history_of, load_module, save_module
from optimize.prepare import dynamic_shapes, export_module, is_module, raw_examples
from optimize.rooms import Room

if TYPE_CHECKING:
    import torch

_MODULE = "module"  # the folder of a module in a job's folder
_DISTILLED = (  # facts of a distillation that the report keeps
    *("temperature", "alpha", "validation", "teacher_validation", "agreement"),
    *("parameters", "teacher_parameters"),
)


def prune_weights(room: Room) -> dict[str, Any]:
    module, options = _module(room), room.options
    checkpoint = Checkpoint(room.checkpoints())
    if options["pattern"] == "2:4":
        line = room.line("training", 1)
        facts = prune.mask_two_of_four(module, _train(room), options["epochs"], checkpoint, line)
        asked = "2:4 along the inputs"
    else:
        line = room.line("rounds of training", options["rounds"])
        facts = prune.prune_weights(
            module,
            options["sparsity"],
            _train(room),
            options["rounds"],
            options["epochs"],
            checkpoint,
            line,
        )
        asked = f"the smallest over all layers, {options['rounds']} rounds with a cubic schedule"
    made = _finish(room, module, _base(room), [])
    compressed = prune.compressed_bytes(room.folder / "graph" / made["graph"])
    return {
        **made,
        "figures": {
            "sparsity": facts["sparsity"],
            "compressed_bytes": compressed,
            "parameters": _count(module),
        },
        "stages": {
            "pruning": f"{facts['sparsity']:.0%} of the weights are zero: {asked}; {compressed / 1e6:.2f} MB "
            f"to download (gzip). Dense CPU kernels compute zeros, too: no speed is gained"
        },
    }


def prune_channels(room: Room) -> dict[str, Any]:
    module, options, recipe = _module(room), room.options, room.recipe
    line = room.line("rounds of training", options["rounds"])
    facts = structured.prune_channels(
        module,
        raw_examples(recipe)[0],
        options["ratio"],
        _train(room),
        options["rounds"],
        options["epochs"],
        recipe.call("keep", module) if recipe.has("keep") else (),
        recipe.call("heads", module) if recipe.has("heads") else None,
        Checkpoint(room.checkpoints()),
        line,
    )
    made = _finish(room, module, _base(room), [*_history(room), *facts["history"]])
    before, after = facts["parameters_before"], facts["parameters_after"]
    return {
        **made,
        "figures": {"parameters": after, "macs": facts["macs_after"]},
        "stages": {
            "structured pruning": f"{before:,} to {after:,} parameters, {facts['macs_before']:,} to "
            f"{facts['macs_after']:,} multiply-adds an example, {options['rounds']} rounds"
            f"{_left(facts['left'])}"
        },
    }


def distill(room: Room) -> dict[str, Any]:
    recipe, options = room.recipe, room.options
    teacher, student = _module(room), recipe.call("student")
    if not is_module(student):
        raise recipe.reject("student", f"student() returned {type(student).__name__}, not a torch module")
    example = raw_examples(recipe)[0]
    tried = len(options["temperatures"]) * (len(options["alphas"]) if recipe.has("labelled") else 1)
    facts = teaching.distill(
        teacher,
        student,
        recipe.functions.get("labelled"),
        recipe.functions.get("unlabelled"),
        lambda predict: float(recipe.call("validate", predict)),
        tuple(example),
        output_names(student, example, recipe.outputs),
        options["temperatures"],
        options["alphas"],
        options["epochs"],
        options["lr"],
        checkpoint=Checkpoint(room.checkpoints()),
        line=room.line("settings and epochs", (tried if tried > 1 else 0) + options["epochs"]),
    )
    made = _finish(room, student, "student", [])
    smaller = facts["teacher_parameters"] / facts["parameters"]
    return {
        **made,
        "figures": {name: facts[name] for name in _DISTILLED},
        "grid": facts["grid"],
        "stages": {
            "distillation": f"{facts['parameters']:,} parameters, {smaller:.1f} times fewer than before; "
            f"temperature {facts['temperature']:g} and alpha {facts['alpha']:g} of {tried} tried on "
            f"validation data; top answers as the teacher's: {facts['agreement']:.1%}"
        },
    }


def compile(room: Room) -> dict[str, Any]:
    """The module's package, compiled for this machine."""
    from optimize.compiled import PACKAGE, compile_module

    line = room.line("", 1)
    module, example = _module(room), raw_examples(room.recipe)[0]
    shapes = dynamic_shapes(room.recipe, example)
    target = compile_module(
        module, example, shapes, room.options["precision"], room.new_graph(PACKAGE), room.options["device"]
    )
    line.advance()
    return {"graph": target.name}


def _module(room: Room) -> torch.nn.Module:
    """The module that the step begins with: that of the step before, or the recipe's."""
    folder = room.inputs["module"] / _MODULE
    if folder.is_dir():
        return load_module(
            folder,
            lambda: room.recipe.call("model"),
            (lambda: room.recipe.call("student")) if room.recipe.has("student") else None,
            raw_examples(room.recipe)[0],
        )
    found = room.recipe.call("model")
    if not is_module(found):
        raise ConfigRejected(
            "this step works on a torch module, so model() of the recipe must return one, not an ONNX file"
        )
    module: torch.nn.Module = found
    return module


def _base(room: Room) -> Literal["model", "student"]:
    base: Literal["model", "student"] = room.facts("module").get("base", "model")
    return base


def _history(room: Room) -> list[Any]:
    folder = room.inputs["module"] / _MODULE
    return list(history_of(folder)) if folder.is_dir() else []


def _train(room: Room) -> prune.Train:
    def train(module: torch.nn.Module, epochs: int, after_batch: Any) -> None:
        room.recipe.call("train", module, epochs, after_batch)

    return train


def _finish(
    room: Room, module: torch.nn.Module, base: Literal["model", "student"], history: list[Any]
) -> Mapping[str, Any]:
    """The module and its graph on disk; the graph answers as the module does."""
    module.eval()
    if not history and base == _base(room):
        history = _history(room)
    save_module(module, room.folder / _MODULE, base, history)
    graph = export_module(room.recipe, module, room.new_graph().parent)
    return {"graph": graph.name, "base": base}


def _left(layers: list[str]) -> str:
    return f"; whole because outputs or attention depend on them: {', '.join(layers)}" if layers else ""


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
