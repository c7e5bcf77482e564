"""Run a torch module under a profile: every operation by the device's kinds, intermediate numbers in sight.

What cannot be computed is named with its module's path and gives NaN, which all that depends on it
then is; the rest is computed and shown, so one run tells everything that is missing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fidelity.arithmetic.observe import unobserved
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.torch.aten import ATEN, FACTORIES, MOVEMENT
from fidelity.arithmetic.torch.device import Device, TorchSite, Watch, unwatched
from fidelity.arithmetic.torch.tensors import array, converted
from fidelity.errors import BadInput

MODULE = "MODULE"


@dataclass(frozen=True)
class MissingOperation:
    """An operation that could not be computed: the module that asked for it, its torch name, and why."""

    path: str
    name: str
    reason: str


@dataclass(frozen=True)
class TorchRun:
    """What a module gave, and the operations that were missing; with any, NaN stands for what depends on them."""

    output: torch.Tensor
    missing: tuple[MissingOperation, ...] = ()

    def complete(self) -> torch.Tensor:
        """The output. Raises BadInput that names the first missing operation."""
        if self.missing:
            first, more = self.missing[0], len(self.missing) - 1
            others = f" (and {more} more)" if more else ""
            raise BadInput(f"{first.path or 'the model'}: {first.name} cannot be emulated: {first.reason}{others}")
        return self.output


class TorchEmulator:
    """A module made ready under a profile: parameters and buffers converted once for any number of runs."""

    def __init__(self, module: nn.Module, profile: Profile) -> None:
        """`module` is copied, in float32 and eval mode."""
        self.module = copy.deepcopy(module).float().eval()
        with torch.no_grad():
            for stored in (*self.module.parameters(), *self.module.buffers()):
                if stored.is_floating_point():
                    stored.copy_(converted(stored, profile.weights))
        tensors = (*self.module.parameters(), *self.module.buffers())
        self._device = Device(profile, {each.untyped_storage().data_ptr() for each in tensors})

    def run(self, *args: Any, watch: Watch = unwatched, **kwargs: Any) -> TorchRun:
        """The module called with these arguments; floating point ones become float32, then the profile's.

        Raises BadInput when the module gives something else than one tensor.
        """
        device = self._device
        device.path, device.number, device.watch = "", 0, watch
        args, kwargs = tree_map(self.entering, (args, kwargs))
        mode = _Arithmetic(device)
        # fused attention of the library would be one operation; in parts, its logits are in sight
        with torch.no_grad(), _paths(self.module, device), sdpa_kernel(SDPBackend.MATH), mode:
            output = self.module(*args, **kwargs)
        if not isinstance(output, torch.Tensor):
            raise BadInput(f"{type(self.module).__name__} gives a {type(output).__name__}, not one tensor")
        return TorchRun(converted(output, device.profile.outputs), tuple(mode.missing))

    def entering(self, value: Any) -> Any:
        """An argument as the device holds it; what is no floating point tensor stays as it is."""
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return converted(value.detach().float(), self._device.profile.inputs)
        return value


class _Arithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, operations on floating point tensors are the device's."""

    def __init__(self, device: Device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.missing: list[MissingOperation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if func.is_view or name in MOVEMENT:
            return func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name in FACTORIES or not any(x.is_floating_point() for x in given):
            return self._constant(func(*args, **kwargs))
        in_place = name.endswith("_") and not name.endswith("__")
        handler = ATEN.get(name.removesuffix("_") if in_place else name)
        try:
            if handler is None:
                return self._without(func, name, "the emulator does not have it", args, kwargs)
            if any(x.is_floating_point() and x.dtype != torch.float32 for x in given):
                raise NotImplementedError("an operand is neither float32 nor whole")
            result = handler(self._device, *args, **kwargs)
        except (NotImplementedError, TypeError, ValueError) as error:
            return self._without(func, name, " ".join(str(error).split()), args, kwargs)
        return args[0].copy_(result) if in_place else result

    def _constant(self, value: Any) -> Any:
        """What is made of no floating point number: a constant of the graph, or whole numbers."""
        return tree_map(self._entering, value)

    def _entering(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            return converted(value, self._device.profile.weights)
        return value

    def _without(self, func: Any, name: str, reason: str, args: Any, kwargs: Any) -> Any:
        """NaN in the shape of the result, and a note; whole results are comparisons and choices, which are exact."""
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if any(leaf.is_floating_point() for leaf in results):
            self.missing.append(MissingOperation(self._device.path, name, reason))
        for leaf in results:
            if leaf.is_floating_point():
                leaf.fill_(torch.nan)
        return result


@contextmanager
def _paths(module: nn.Module, device: Device) -> Iterator[None]:
    """While active, the device knows the path of the module that is running, and sees what each gives."""
    stack: list[str] = []
    handles = []
    for path, each in module.named_modules():

        def enter(_: nn.Module, __: Any, path: str = path) -> None:
            stack.append(path)
            device.path = path

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            path = stack.pop()
            device.path = stack[-1] if stack else ""
            observe = device.watch(TorchSite(path, MODULE, device.number))
            if observe is not unobserved and isinstance(output, torch.Tensor) and output.is_floating_point():
                observe("result", array(output))

        handles += [each.register_forward_pre_hook(enter), each.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            cast("Any", handle).remove()
