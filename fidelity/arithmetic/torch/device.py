"""The device's kinds of operation on torch tensors: the kernels of the .tflite emulator, or torch with the same bits.

Torch computes what it computes exactly as the kernel does: single float32 additions, products,
quotients, and matrix products to which the profile gives no order. tests/test_torch_run.py holds
the two against each other bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import TypeVar

import torch

from fidelity.arithmetic.kernels import elementwise, functions, products, reductions
from fidelity.arithmetic.kernels.softmax import softmax as softmax_kernel
from fidelity.arithmetic.matmul import Right
from fidelity.arithmetic.observe import Observer, Part, unobserved
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import Elementwise, Function, Product, Reduction, Softmax
from fidelity.arithmetic.torch.tensors import array, converted, tensor

R = TypeVar("R", Elementwise, Function, Product, Reduction, Softmax)
_BY_TORCH: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "ADD": torch.add,
    "SUB": torch.sub,
    "MUL": torch.mul,
    "DIV": torch.div,
    "MAXIMUM": torch.maximum,
    "MINIMUM": torch.minimum,
}


@dataclass(frozen=True)
class TorchSite:
    """One operation of a run: the path of the module that asks for it, its kind, its number in the run.

    What a module gives as a whole has the kind MODULE and the number of operations so far.
    """

    path: str
    kind: str
    number: int


Watch = Callable[[TorchSite], Observer]
"""Gives the observer of one operation's inner sites and result."""


def unwatched(site: TorchSite) -> Observer:
    """Looks at nothing."""
    return unobserved


class Device:
    """Computes kinds of operation under a profile, and shows each to the watch.

    `constants` are the storages of the module's parameters and buffers: a product with one of them
    is a FULLY_CONNECTED whose weights are laid out once. Every method raises NotImplementedError
    where the profile has no rule.
    """

    def __init__(self, profile: Profile, constants: Set[int]) -> None:
        self.profile = profile
        self.path, self.number = "", 0
        self.watch: Watch = unwatched
        self._constants = constants
        self._prepared: dict[tuple[int, torch.Size, tuple[int, ...]], Right] = {}

    def scalar(self, value: float) -> torch.Tensor:
        """A number of the program, a constant of the graph."""
        return converted(torch.tensor(value, dtype=torch.float32), self.profile.weights)

    def is_constant(self, x: torch.Tensor) -> bool:
        """Whether the tensor is a view of a parameter or buffer."""
        return x.untyped_storage().data_ptr() in self._constants

    def binary(self, kind: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM or SQUARED_DIFFERENCE."""
        rule, observe = self._begin(kind, Elementwise)
        if kind in _BY_TORCH and rule.division == "quotient":
            return self._end(observe, converted(_BY_TORCH[kind](a, b), rule.stored))
        if kind == "SQUARED_DIFFERENCE":
            difference = converted(a - b, rule.steps)
            self._show(observe, "difference", difference)
            return self._end(observe, converted(difference * difference, rule.stored))
        return self._end(observe, tensor(elementwise.binary(kind, array(a), array(b), rule, observe)))

    def unary(self, kind: str, x: torch.Tensor) -> torch.Tensor:
        """A function of one number."""
        rule, observe = self._begin(kind, Function)
        return self._end(observe, tensor(functions.unary(kind, array(x), rule)))

    def power(self, x: torch.Tensor, exponent: float) -> torch.Tensor:
        """POW by a constant."""
        rule, observe = self._begin("POW", Function)
        return self._end(observe, tensor(functions.power(array(x), array(self.scalar(exponent)), rule)))

    def reduce(self, kind: str, x: torch.Tensor, axes: tuple[int, ...], *, keep: bool) -> torch.Tensor:
        """SUM or MEAN over `axes`."""
        rule, observe = self._begin(kind, Reduction)
        y = self._end(observe, tensor(reductions.reduce(kind, array(x), axes, rule, observe=observe)))
        over = {axis % x.ndim for axis in axes}
        return y if keep else y.reshape([size for axis, size in enumerate(x.shape) if axis not in over])

    def softmax(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """SOFTMAX over one axis."""
        rule, observe = self._begin("SOFTMAX", Softmax)
        last = x.movedim(axis, -1)
        return self._end(observe, tensor(softmax_kernel(array(last), rule, observe=observe))).movedim(-1, axis)

    def matmul(self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """a [M, K] times b [K, N]: FULLY_CONNECTED where b is of the module's constants; plus bias [N]."""
        if not self.is_constant(b):
            product = self.batch_matmul(a, b)
            return product if bias is None else self.binary("ADD", product, bias)
        rule, observe = self._begin("FULLY_CONNECTED", Product)
        if not rule.cases:
            return self._end(observe, self._finish(rule, observe, a @ b, bias))
        right = self._right(b, lambda: products.weights(array(b.T), rule))
        y = products.fully_connected(array(a), right, None if bias is None else array(bias), rule, observe)
        return self._end(observe, tensor(y))

    def batch_matmul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """BATCH_MATMUL of [..., M, K] and [..., K, N]."""
        rule, observe = self._begin("BATCH_MATMUL", Product)
        if not rule.cases:
            return self._end(observe, self._finish(rule, observe, a @ b, None))
        return self._end(observe, tensor(products.batch_matmul(array(a), array(b), rule, observe)))

    def convolution(
        self, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, window: products.Window
    ) -> torch.Tensor:
        """CONV_2D of NCHW x with OIHW weights, as the NHWC one that a .tflite has."""
        rule, observe = self._begin("CONV_2D", Product)
        if not rule.cases:
            sums = torch.conv2d(x, w, None, window.strides, window.before, window.dilations)
            return self._end(observe, self._finish(rule, observe, sums, None if bias is None else bias[:, None, None]))
        right = self._right(w, lambda: products.weights(array(w.permute(0, 2, 3, 1)), rule))
        flat = None if bias is None else array(bias)
        kernel = (w.shape[2], w.shape[3])
        y = products.conv_2d(array(x.permute(0, 2, 3, 1)), right, kernel, window, flat, rule, observe)
        return self._end(observe, tensor(y).permute(0, 3, 1, 2))

    def _finish(self, rule: Product, observe: Observer, sums: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Bias and rounding behind float32 sums in the host's order."""
        self._show(observe, "sum", sums)
        return converted(sums if bias is None else sums + bias, rule.stored)

    def _right(self, w: torch.Tensor, prepare: Callable[[], Right]) -> Right:
        """Prepared weights, kept where they are constants."""
        if not self.is_constant(w):
            return prepare()
        key = (w.data_ptr(), w.shape, w.stride())
        if key not in self._prepared:
            self._prepared[key] = prepare()
        return self._prepared[key]

    def _begin(self, kind: str, rule_type: type[R]) -> tuple[R, Observer]:
        rule = self.profile.rules.get(kind)
        if not isinstance(rule, rule_type):
            raise NotImplementedError(f"profile {self.profile.name} has no rule for {kind}")
        self.number += 1
        return rule, self.watch(TorchSite(self.path, kind, self.number))

    def _end(self, observe: Observer, y: torch.Tensor) -> torch.Tensor:
        self._show(observe, "result", y)
        return y

    @staticmethod
    def _show(observe: Observer, part: Part, values: torch.Tensor) -> None:
        if observe is not unobserved:
            observe(part, array(values))
