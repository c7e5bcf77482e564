"""Run a model block by block: forward passes that stop at every block and wait for its output.

A model too large for float64, or for several versions of it at once, fits when one block at a time
is made, used by every pass that needs it, and dropped. Its own forward code stays what runs: each
pass is a thread that sleeps at a block (a generator cannot stop inside another's code), and only one thread
is ever awake, so nothing depends on timing.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_BLOCK = re.compile(r"(?:.+\.)?blocks\.\d+")
_running = threading.local()
K = TypeVar("K")


def block_paths(model: nn.Module) -> tuple[str, ...]:
    """Paths of the model's blocks, in its order: members of a list called `blocks`, the outermost ones."""
    found: list[str] = []
    for path, _ in model.named_modules():
        if _BLOCK.fullmatch(path) and not any(path.startswith(f"{outer}.") for outer in found):
            found.append(path)
    return tuple(found)


def without_blocks(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """A copy of the model in which every block is a stop: its `blocks` hold no weight."""
    return copy.deepcopy(model, {id(model.get_submodule(path)): Stop(path) for path in paths})


class Stop(nn.Module):
    """Stands in a block's place: a pass that comes here waits until it is given the block's output."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the pass is answered for this call."""
        this: Pass = _running.this
        return this.wait(Call(self.path, args, kwargs))


@dataclass(frozen=True)
class Call:
    """The call of a block by which a pass waits."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Abandoned(BaseException):
    """Ends the code of a pass that nobody will answer."""


@dataclass(eq=False)
class Pass:
    """One run of code that meets stops: from its making at the first of them, or at its end.

    `call` is what it waits for, None at the end; `output` is then what the code gave. What the code
    raises is raised where the pass was set going.
    """

    run: Callable[[], Any]
    call: Call | None = None
    output: Any = None
    _answer: Any = None
    _abandoned: bool = False
    _error: BaseException | None = None
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        threading.Thread(target=self._code, daemon=True).start()
        self._until_stopped()

    def answer(self, output: Any) -> None:
        """The output of the block that it waits for; it runs on to the next one."""
        self._answer = output
        self._go.release()
        self._until_stopped()

    def abandon(self) -> None:
        """End it where it waits."""
        if self.call is not None:
            self._abandoned = True
            self._go.release()
            self._stopped.acquire()

    def wait(self, call: Call) -> Any:
        """Called by a stop, within the code: sleeps until there is an answer."""
        self.call = call
        self._stopped.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned
        answer, self._answer = self._answer, None
        return answer

    def _code(self) -> None:
        _running.this = self
        try:
            self.output = self.run()
        except BaseException as error:
            self._error = error
        self.call = None
        self._stopped.release()

    def _until_stopped(self) -> None:
        self._stopped.acquire()
        if self._error is not None:
            raise self._error


@contextmanager
def started(runs: Mapping[K, Callable[[], Any]]) -> Iterator[dict[K, Pass]]:
    """Within: a pass of each code, by the same keys. None of them waits afterwards, whatever happens."""
    passes: dict[K, Pass] = {}
    try:
        for key, run in runs.items():
            passes[key] = Pass(run)
        yield passes
    finally:
        for each in passes.values():
            each.abandon()


def stops(passes: Mapping[K, Pass]) -> Iterator[tuple[str, dict[K, Call]]]:
    """Each block that a pass waits for, with the calls of all that wait for it: to be answered before the next."""
    while waiting := {key: each.call for key, each in passes.items() if each.call is not None}:
        path = next(iter(waiting.values())).path
        yield path, {key: call for key, call in waiting.items() if call.path == path}


def outputs_float64(module: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """What the module gives in float64 and eval mode for each array, by name; one block in float64 at a time.

    The same bits as `copy.deepcopy(module).double().eval()` gives.
    """
    paths = block_paths(module)
    rest = without_blocks(module, paths).double().eval()

    def run(array: NDArray[np.float32]) -> torch.Tensor:
        with torch.no_grad():
            return cast("torch.Tensor", rest(torch.from_numpy(array).double()))

    with torch.no_grad(), started({name: partial(run, array) for name, array in arrays.items()}) as passes:
        for path, calls in stops(passes):
            block = copy.deepcopy(module.get_submodule(path)).double().eval()
            for name, call in calls.items():
                passes[name].answer(block(*call.args, **call.kwargs))
        return {name: each.output.numpy() for name, each in passes.items()}
