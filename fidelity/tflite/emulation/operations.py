"""One operator of a graph as a call of a kernel: which inputs are what, and what its options mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.kernels import elementwise, functions, products, reductions
from fidelity.arithmetic.kernels import softmax as softmax_kernel
from fidelity.arithmetic.matmul import Right
from fidelity.arithmetic.observe import Observer
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.rules import (
    BINARY,
    POWER,
    SOFTMAX,
    SUMS,
    UNARY,
    Elementwise,
    Function,
    Product,
    Reduction,
    Softmax,
)
from fidelity.tflite.emulation.movement import given, number, same_padding
from fidelity.tflite.structure import Operator

Array = NDArray[Any]
Single = NDArray[np.float32]
R = TypeVar("R", Elementwise, Function, Product, Reduction, Softmax)


@dataclass(frozen=True)
class Call:
    """An operator with what it reads.

    `weights` are weights and bias prepared, where they never change: `inputs` then ends before them.
    `kernel` is the shape of a convolution's weights. `inside`: computed within the sum that reads it,
    in float32. `followed`: computed together with its one elementwise reader.
    """

    op: Operator
    inputs: Sequence[Array | None]
    profile: Profile
    observe: Observer
    weights: tuple[Right, Single | None] | None = None
    kernel: tuple[int, ...] = ()
    inside: bool = False
    followed: bool = False

    def rule(self, kind: type[R]) -> R:
        """The profile's rule. Raises NotImplementedError when it has none for this operation."""
        found = self.profile.rules.get(self.op.name)
        if not isinstance(found, kind):
            raise NotImplementedError(f"profile {self.profile.name} has no rule for {self.op.name}")
        return found


def binary(call: Call) -> Single:
    """Two operands; a fused activation is a maximum or a minimum more."""
    a, b = given(call.inputs, 0), given(call.inputs, 1)
    rule = Elementwise() if call.inside else call.rule(Elementwise)
    return activated(call, elementwise.binary(call.op.name, a, b, rule, call.observe))


def unary(call: Call) -> Single:
    if call.op.options.get("approximate"):
        raise NotImplementedError("the tanh form of GELU")
    return functions.unary(call.op.name, given(call.inputs, 0), call.rule(Function))


def power(call: Call) -> Single:
    return functions.power(given(call.inputs, 0), given(call.inputs, 1), call.rule(Function))


def fully_connected(call: Call) -> Single:
    rule = call.rule(Product)
    w, bias = call.weights or _weights(call, rule)
    y = products.fully_connected(given(call.inputs, 0), w, bias, rule, call.observe)
    if not call.op.options.get("keep_num_dims"):
        y = y.reshape(-1, y.shape[-1])
    return activated(call, y)


def batch_matmul(call: Call) -> Single:
    a, b, rule = given(call.inputs, 0), given(call.inputs, 1), call.rule(Product)
    if call.op.options.get("adj_x"):
        a = a.swapaxes(-1, -2)
    if call.op.options.get("adj_y"):
        b = b.swapaxes(-1, -2)
        rule = rule.model_copy(update={"cases": rule.transposed or rule.cases})
    return products.batch_matmul(a, b, rule, call.observe)


def conv_2d(call: Call) -> Single:
    rule, options = call.rule(Product), call.op.options
    x = given(call.inputs, 0)
    _, height, width, channels = call.kernel
    strides, dilations = (
        (max(1, int(number(options, f"{name}_h{tail}"))), max(1, int(number(options, f"{name}_w{tail}"))))
        for name, tail in (("stride", ""), ("dilation", "factor"))
    )
    kernel = (height, width)
    before, after = (0, 0), (0, 0)
    if options.get("padding") == "SAME":
        pairs = [same_padding(x.shape[1 + i], kernel[i], strides[i], dilations[i]) for i in range(2)]
        before, after = (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
    if x.shape[3] != channels:
        raise NotImplementedError(f"a grouped CONV_2D, {x.shape[3]} channels with weights for {channels}")
    window = products.Window(strides, dilations, before, after)
    w, bias = call.weights or _weights(call, rule)
    return activated(call, products.conv_2d(x, w, kernel, window, bias, rule, call.observe))


def reduce(call: Call) -> Single:
    x = given(call.inputs, 0)
    axes = tuple(int(axis) for axis in given(call.inputs, 1).reshape(-1).tolist())
    rule = call.rule(Reduction)
    y = reductions.reduce(call.op.name, x, axes, rule, absorbed=call.followed, observe=call.observe)
    return y if call.op.options.get("keep_dims") else np.squeeze(y, tuple(axis % x.ndim for axis in axes))


def softmax(call: Call) -> Single:
    if number(call.op.options, "beta") != 1:
        raise NotImplementedError(f"SOFTMAX with beta {call.op.options.get('beta')}")
    x, rule = given(call.inputs, 0), call.rule(Softmax)
    return softmax_kernel.softmax(x, rule, absorbed=call.followed, observe=call.observe)


COMPUTED: Mapping[str, Callable[[Call], Single]] = {
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(SUMS, reduce),
    POWER: power,
    SOFTMAX: softmax,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv_2d,
}
"""By the schema's name of the operation."""


def activated(call: Call, y: Single) -> Single:
    """The fused activation: those that do not round; TANH does, which float32 alone computes."""
    which = call.op.options.get("fused_activation_function", "NONE")
    if which in ("NONE", "RELU", "RELU6"):
        low = y if which == "NONE" else np.maximum(y, np.float32(0))
        return np.minimum(low, np.float32(6)) if which == "RELU6" else low
    if which == "RELU_N1_TO_1":
        return np.clip(y, np.float32(-1), np.float32(1))
    if which == "TANH" and call.profile.is_float32:
        return np.tanh(y.astype(np.float64)).astype(np.float32)
    raise NotImplementedError(f"the fused activation {which}")


def _weights(call: Call, rule: Product) -> tuple[Right, Single | None]:
    return products.weights(given(call.inputs, 1), rule), call.inputs[2] if len(call.inputs) > 2 else None
