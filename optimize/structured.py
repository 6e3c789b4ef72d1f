"""Whole channels, neurons and attention heads removed, so that any engine has less to compute.

torch-pruning follows what hangs together (https://arxiv.org/abs/2301.12900): the channels of a
convolution, its batch norm, what is added to it, and the inputs of every layer that reads it form
one group and go together. Which of them go is decided here, by the L2 norm over the whole group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigRejected
from headrace.tensors import TensorMap
from optimize.checkpoint import Checkpoint, seed
from optimize.export import first_line, tensors_in
from optimize.progress import Line
from optimize.prune import Facts, Train

if TYPE_CHECKING:
    import torch

Removal = list[Any]  # as torch-pruning writes it: module, output channels or inputs, which ones
History = list[list[Removal]]  # by round

_ROUND_TO = 8  # channels: what the vectors of a CPU hold; others fall off ONNX Runtime's fast layout
_WAY_OUT = (
    "forward() must take sizes from its tensors, such as view(batch, length, -1, head_size); name attention "
    "projections in heads(model), or leave modules out by keep(model)"
)


def prune_channels(
    module: torch.nn.Module,
    example: TensorMap,
    ratio: float,
    train: Train,
    rounds: int = 2,
    epochs: int = 1,
    keep: Iterable[torch.nn.Module] = (),
    heads: Mapping[torch.nn.Module, int] | None = None,
    checkpoint: Checkpoint | None = None,
    line: Line | None = None,
) -> Facts:
    """Remove the part `ratio` of every group of channels and heads, in rounds with training in between.

    In place. Groups that the outputs' shapes depend on stay, and so do those with a module of `keep`.
    Projections in `heads` lose whole heads; attention that is not named there stays. ConfigRejected
    when no parameter went, or when the smaller model does not run or gives other shapes.
    Facts: `parameters` and `macs` (multiply-adds of one example) before and after; `left`, the layers
    whose channels were left alone; and the `history` of this call, which `replay` repeats.
    """
    if not 0 < ratio < 1:
        raise ConfigRejected(f"structured pruning needs a ratio between 0 and 1, such as 0.5, not {ratio:g}")
    before, shapes = _costs(module, example), _shapes(module, example)
    kept = [part for whole in keep for part in whole.modules()]
    pruner = _Pruner(_trace(module, example), kept, heads or {})
    last, history, left = _resume(module, example, checkpoint, rounds)
    pruner.left.update(left)
    for number in range(last + 1, rounds + 1):
        history.append(pruner.prune(_trace(module, example), ratio * number / rounds))
        _check(module, example, shapes)
        seed(number)
        module.zero_grad()
        train(module, epochs, lambda: None)
        module.eval()
        if checkpoint:
            checkpoint.save(f"round-{number}", module, {"history": history, "left": sorted(pruner.left)})
        if line:
            line.advance()
    _check(module, example, shapes)
    after = _costs(module, example)
    if not after["parameters"] < before["parameters"]:
        raise ConfigRejected(
            "structured pruning removed no parameter: every group of channels reaches an output, is in "
            "keep(model), is attention without heads(model), or is too small for the ratio"
        )
    return {
        **{f"{name}_before": count for name, count in before.items()},
        **{f"{name}_after": count for name, count in after.items()},
        "left": sorted(pruner.left),
        "history": history,
    }


def replay(module: torch.nn.Module, example: TensorMap, history: History) -> None:
    """Make a module as small as the one that `history` was written for, in place; weights follow apart."""
    for removals in history:
        _trace(module, example).load_pruning_history(removals)  # anew: its places in splits grow stale
        module.eval()


class _Pruner:
    """Chooses what goes, group by group; sizes are counted from those at the start."""

    def __init__(self, graph: Any, keep: list[torch.nn.Module], heads: Mapping[torch.nn.Module, int]) -> None:
        import torch_pruning

        self._graph = graph
        self._keep = keep
        self._heads = heads
        self._importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        self._names = {module: name for name, module in graph.model.named_modules()}
        self._widths = {self._root(group): len(group[0].idxs) for group in self._groups()}
        self.left: set[str] = set()  # groups that cannot be pruned, by their first module

    def prune(self, graph: Any, ratio: float) -> list[Removal]:
        """Remove up to the part `ratio` of each group's channels at the start; what was removed."""
        self._graph = graph
        chosen = [(group[0].dep, found) for group in self._groups() if (found := self._choose(group, ratio))]
        for dependency, found in chosen:
            group = graph.get_pruning_group(dependency.target.module, dependency.handler, found)
            if graph.check_pruning_group(group):
                group.prune()
        removals: list[Removal] = graph.pruning_history()
        return removals

    def _groups(self) -> Iterator[Any]:
        """Groups that may be pruned: those that reach no output, and hold no module to keep."""
        import torch_pruning

        ops = torch_pruning.ops
        kinds = (ops.TORCH_CONV, ops.TORCH_LINEAR)
        for group in self._graph.get_all_groups(ignored_layers=self._keep, root_module_types=kinds):
            if all(dep.target.type != ops.OPTYPE.OUTPUT for dep, _ in group):
                yield group

    def _choose(self, group: Any, ratio: float) -> list[int]:
        """The channels of a group that go: the least important, of whole heads where there are heads."""
        root = self._root(group)
        heads = self._heads_of(group)
        try:
            importance = None if not heads and _is_attention(group) else self._importance(group)
        except IndexError:  # torch-pruning lost count where channels are split and meet again
            importance = None
        if importance is None:
            self.left.add(root)
            return []
        if heads:
            size = self._widths[root] // heads
            gone = _least(importance.view(-1, size).mean(1), max(round(heads * (1 - ratio)), 1))
            return [head * size + offset for head in gone for offset in range(size)]
        parts = self._parts_of(group)  # of equal size, whose channels of the same number go together
        scores = importance.view(parts, -1).mean(0)
        gone = _least(scores, _rounded(self._widths[root] // parts, ratio))
        return [part * len(scores) + channel for part in range(parts) for channel in gone]

    def _heads_of(self, group: Any) -> int:
        """The number of heads (at the start) that a group's channels belong to; 0: none."""
        writes, reads = self._graph.is_out_channel_pruning_fn, self._graph.is_in_channel_pruning_fn
        written = [dep.target.module for dep, _ in group if writes(dep.handler)]
        found = {self._heads[module] for module in written if module in self._heads}
        if not found:
            return 0
        readers = [dep.target for dep, _ in group if reads(dep.handler) and dep.target.module in self._names]
        widths = {self._graph.get_in_channels(reader) for reader in readers}
        if len(found) > 1 or widths != {len(group[0].idxs)} or self._widths[self._root(group)] % min(found):
            raise ConfigRejected(
                f"heads of '{self._root(group)}' cannot be pruned: query, key and value must be projections "
                f"of their own, of equal width and number of heads; leave the module out of heads(model)"
            )
        return found.pop()

    def _parts_of(self, group: Any) -> int:
        """1, or the groups of a grouped convolution or norm, or the halves of a gate."""
        modules = [dep.target.module for dep, _ in group]
        numbers = [getattr(module, "num_groups", getattr(module, "groups", 1)) for module in modules]
        inputs = [getattr(module, "in_channels", 0) for module in modules]
        grouped = [n for n, channels in zip(numbers, inputs, strict=True) if n != channels]  # not depthwise
        first = self._graph.get_pruning_group(group[0].dep.target.module, group[0].dep.handler, [0])
        return max(1, len(first[0].idxs), *grouped)

    def _root(self, group: Any) -> str:
        name: str = self._names[group[0].dep.target.module]
        return name


def _is_attention(group: Any) -> bool:
    """Whether channels meet in a product of two activations: without knowing heads they must not be mixed."""
    from torch import nn

    return any(
        isinstance(dep.target.module, nn.MultiheadAttention)
        or "Bmm" in dep.target.name
        or "ScaledDotProduct" in dep.target.name
        for dep, _ in group
    )


def _rounded(width: int, ratio: float) -> int:
    """How many channels stay: a multiple of 8 where there are enough of them, and never none."""
    kept = width * (1 - ratio)
    if width >= 2 * _ROUND_TO:
        return max(round(kept / _ROUND_TO), 1) * _ROUND_TO
    return max(round(kept), 1)


def _least(scores: torch.Tensor, kept: int) -> list[int]:
    found: list[int] = scores.argsort(stable=True)[: max(len(scores) - kept, 0)].sort().values.tolist()
    return found


def _trace(module: torch.nn.Module, example: TensorMap) -> Any:
    """The dependency graph of a module (torch_pruning.DependencyGraph)."""
    import torch
    import torch_pruning

    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)  # it follows gradients
    try:
        with torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(
                module,
                {name: torch.tensor(array) for name, array in example.items()},
                # Adding nothing gives each output a node of its own, also where it comes from a layer.
                output_transform=lambda found: [part + 0 for part in tensors_in(found) if part.requires_grad],
                verbose=False,
            )
    except Exception as err:
        raise ConfigRejected(
            f"torch-pruning cannot follow the model: {type(err).__name__}: {first_line(err)}; {_WAY_OUT}"
        ) from err
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _resume(
    module: torch.nn.Module, example: TensorMap, checkpoint: Checkpoint | None, rounds: int
) -> tuple[int, History, list[str]]:
    """The last round that was kept, its history and what was left, with the module as it was then."""
    for number in range(rounds, 0, -1):
        if checkpoint and (facts := checkpoint.facts(f"round-{number}")):
            replay(module, example, facts["history"])
            fits = checkpoint.load(f"round-{number}", module)
            assert fits, "a checkpoint folder belongs to one model and one set of options"
            return number, facts["history"], facts["left"]
    return 0, [], []


def _shapes(module: torch.nn.Module, example: TensorMap) -> list[torch.Size]:
    import torch

    module.eval()
    with torch.no_grad():
        return [t.shape for t in tensors_in(module(**{n: torch.tensor(a) for n, a in example.items()}))]


def _check(module: torch.nn.Module, example: TensorMap, shapes: list[torch.Size]) -> None:
    try:
        found = _shapes(module, example)
    except Exception as err:
        raise ConfigRejected(
            f"the pruned model does not run: {type(err).__name__}: {first_line(err)}; {_WAY_OUT}"
        ) from err
    if found != shapes:
        raise ConfigRejected(
            f"the pruned model gives outputs of shape {[list(shape) for shape in found]}, the original "
            f"{[list(shape) for shape in shapes]}; {_WAY_OUT}"
        )


def _costs(module: torch.nn.Module, example: TensorMap) -> dict[str, int]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _shapes(module, example)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2}
