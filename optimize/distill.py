"""A smaller network taught by a larger one: the teacher's soft answers, and labels where there are any.

The loss is that of Hinton, Vinyals and Dean (2015, https://arxiv.org/abs/1503.02531): answers are
softened by a temperature T, and T^2 keeps the gradients' size, so that alpha weighs soft answers
against labels alike at every T. Which T and alpha serve best is found by short runs, judged on the
recipe's validation data. Of several outputs the first one is taught: logits, classes last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import ConfigRejected
from headrace.tensors import Array, TensorMap
from optimize.checkpoint import Checkpoint, fill, seed, tensors_of
from optimize.export import first_line, predictor, tensors_in
from optimize.progress import Line
from optimize.prune import Facts
from optimize.recipe import Predict

if TYPE_CHECKING:
    import torch

Labelled = Callable[[int], Iterable[tuple[TensorMap, Array]]]  # batches of an epoch, with their labels
Unlabelled = Callable[[int], Iterable[TensorMap]]
Batch = tuple[TensorMap, Array | None]


@dataclass(frozen=True, slots=True)
class Setting:
    temperature: float
    alpha: float  # weight of the soft answers where there are labels; labels weigh 1 - alpha


def distill(
    teacher: torch.nn.Module,
    student: torch.nn.Module,
    labelled: Labelled | None,
    unlabelled: Unlabelled | None,
    validate: Callable[[Predict], float],
    input_names: Sequence[str],
    output_names: Sequence[str],
    temperatures: Sequence[float] = (2.0, 4.0),
    alphas: Sequence[float] = (0.5, 0.9),
    epochs: int = 3,
    lr: float = 4e-3,
    tune_steps: int = 150,
    checkpoint: Checkpoint | None = None,
    line: Line | None = None,
) -> Facts:
    """Train `student` in place to answer as `teacher` does; AdamW, the rate decays as a cosine.

    Every pair of `temperatures` and `alphas` is tried for `tune_steps` steps; the one that `validate`
    likes best is trained for `epochs`, from the start. A step takes one batch of each kind there is;
    the shorter kind begins again until the longer one ends. With a checkpoint a run that was killed
    ends at the same weights, bit for bit.
    Facts: `temperature`, `alpha`, the `grid` with its validation scores, `validation` of student and
    teacher, `agreement` (how often their top classes are the same, on validation data), `parameters`.
    """
    if labelled is None and unlabelled is None:
        raise ConfigRejected("distillation needs labelled(epoch) or unlabelled(epoch) in the recipe")
    run = _Run(teacher, student, labelled, unlabelled, lr)
    predict = {
        "student": predictor(student, input_names, output_names),
        "teacher": predictor(teacher, input_names, output_names),
    }
    start = {name: tensor.clone() for name, tensor in tensors_of(student).items()}
    settings = [Setting(t, a) for t in temperatures for a in (alphas if labelled else (1.0,))]
    scores = []
    for number, setting in enumerate(settings if len(settings) > 1 else ()):
        kept = checkpoint.facts(f"tune-{number}") if checkpoint else None
        if kept is None:
            fill(student, start)
            seed(number)
            run.begin(setting)
            run.epoch(0, 1, tune_steps, limit=tune_steps)
            kept = {"validation": _score(validate, predict["student"])}
            if checkpoint:
                checkpoint.save(f"tune-{number}", student, kept)
        scores.append(kept["validation"])
        if line:
            line.advance()
    best = settings[scores.index(max(scores)) if scores else 0]
    fill(student, start)
    _train(run, best, epochs, checkpoint, line)
    matches: list[Array] = []
    return {
        **asdict(best),
        "grid": [{**asdict(s), "validation": score} for s, score in zip(settings, scores, strict=False)],
        "validation": _score(validate, _matching(predict["student"], predict["teacher"], matches)),
        "teacher_validation": _score(validate, predict["teacher"]),
        "agreement": float(np.concatenate(matches).mean()) if matches else math.nan,
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "teacher_parameters": sum(parameter.numel() for parameter in teacher.parameters()),
    }


class _Run:
    """A student in training: the optimizer, and how many steps an epoch has."""

    def __init__(
        self,
        teacher: torch.nn.Module,
        student: torch.nn.Module,
        labelled: Labelled | None,
        unlabelled: Unlabelled | None,
        lr: float,
    ) -> None:
        self.teacher = teacher.eval()
        self.student = student
        self._labelled = labelled
        self._unlabelled = unlabelled
        self._lr = lr

    def begin(self, setting: Setting) -> None:
        import torch

        self._setting = setting
        self.optimizer = torch.optim.AdamW(self.student.parameters(), self._lr)

    def epoch(self, number: int, epochs: int, steps: int, limit: int | None = None) -> int:
        """Train one epoch, or `limit` steps of it; how many there were. `steps` is how many to expect,
        for the decay of the rate within the epoch; 0: not known."""
        step = -1
        self.student.train()
        for step, batches in enumerate(islice(self._steps(number), limit)):
            done = number + (min(step / steps, 1) if steps else 0)
            for group in self.optimizer.param_groups:
                group["lr"] = self._lr * (1 + math.cos(math.pi * done / epochs)) / 2
            self.optimizer.zero_grad()
            for batch in batches:
                self._loss(*batch).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.student.eval()
        if step < 0:
            raise ConfigRejected("labelled(epoch) and unlabelled(epoch) of the recipe gave no batch")
        return step + 1

    def _steps(self, number: int) -> Iterator[list[Batch]]:
        kinds: list[Callable[[], Iterator[Batch]]] = []
        labelled, unlabelled = self._labelled, self._unlabelled
        if labelled is not None:
            kinds.append(lambda: iter(labelled(number)))
        if unlabelled is not None:
            kinds.append(lambda: ((inputs, None) for inputs in unlabelled(number)))
        return _in_step(kinds)

    def _loss(self, inputs: TensorMap, labels: Array | None) -> torch.Tensor:
        import torch
        from torch.nn import functional

        given = {name: torch.tensor(array) for name, array in inputs.items()}
        with torch.no_grad():
            wanted = tensors_in(self.teacher(**given))[0]
        try:
            logits = tensors_in(self.student(**given))[0]
        except Exception as err:
            raise ConfigRejected(
                f"forward() of student() raised {type(err).__name__}: {first_line(err)}; it must take the "
                f"inputs of model(): {sorted(inputs)}"
            ) from err
        if logits.shape != wanted.shape:
            raise ConfigRejected(
                f"the first output of student() has shape {list(logits.shape)}, that of the teacher "
                f"{list(wanted.shape)}; they must be logits of the same classes"
            )
        soft = soft_loss(logits, wanted, self._setting.temperature)
        if labels is None:
            return soft
        if labels.shape != logits.shape[:-1]:
            raise ConfigRejected(
                f"labelled() of the recipe gave labels of shape {list(labels.shape)}; the logits "
                f"{list(logits.shape)} need one class number for each row: {list(logits.shape[:-1])}"
            )
        hard = functional.cross_entropy(logits.flatten(0, -2), torch.tensor(labels).long().flatten())
        return self._setting.alpha * soft + (1 - self._setting.alpha) * hard


def soft_loss(logits: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the Kullback-Leibler divergence from the teacher's softened classes, mean over rows."""
    from torch.nn import functional

    found = functional.log_softmax(logits / temperature, -1)
    target = functional.log_softmax(wanted / temperature, -1)
    divergence = functional.kl_div(found, target, reduction="none", log_target=True).sum(-1).mean()
    return divergence * temperature**2


def _train(
    run: _Run, setting: Setting, epochs: int, checkpoint: Checkpoint | None, line: Line | None
) -> None:
    """Train all epochs, or what is left of them."""
    run.begin(setting)
    first = steps = 0
    for number in range(epochs, 0, -1):
        if checkpoint and (facts := checkpoint.load(f"epoch-{number}", run.student)):
            _put_state(run.optimizer, checkpoint.more(f"epoch-{number}"))
            first, steps = number, facts["steps"]
            break
    for number in range(first, epochs):
        seed(number)
        steps = run.epoch(number, epochs, steps)
        if checkpoint:
            state = _state(run.optimizer)
            checkpoint.save(f"epoch-{number + 1}", run.student, {"steps": steps}, state)
        if line:
            line.advance()
    run.student.eval()


def _in_step(kinds: Sequence[Callable[[], Iterator[Batch]]]) -> Iterator[list[Batch]]:
    """One batch of each kind at a time; a kind that ends begins again, until each has ended once."""
    running = [kind() for kind in kinds]
    ended = [False] * len(kinds)
    while True:
        batches = []
        for number, kind in enumerate(kinds):
            batch = next(running[number], None)
            if batch is None:
                ended[number] = True
                if all(ended):
                    return
                running[number] = kind()
                batch = next(running[number], None)
            if batch is not None:
                batches.append(batch)
        yield batches


def _state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def _put_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Any]) -> None:
    whole = optimizer.state_dict()
    for name, tensor in tensors.items():
        number, key = name.split(".")
        whole["state"].setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(whole)


def _matching(predict: Predict, other: Predict, matches: list[Array]) -> Predict:
    """`predict`, which also notes where its top classes are those of `other`."""

    def noted(inputs: TensorMap) -> TensorMap:
        found = predict(inputs)
        first, second = (next(iter(outputs.values())) for outputs in (found, other(inputs)))
        matches.append((first.argmax(-1) == second.argmax(-1)).ravel())
        return found

    return noted


def _score(validate: Callable[[Predict], float], predict: Predict) -> float:
    found = float(validate(predict))
    if not math.isfinite(found):
        raise ConfigRejected(f"validate() of the recipe returned {found}; it must return a number")
    return found
