"""Trace a torch module into a file that the conversion worker can read in another process.

torch.export's archive holds the traced graph and raw weights: the worker needs neither the
module's class nor a pickle of it, and the artefact has the same bytes as from the module itself.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from fidelity.errors import BadInput


class NamedIO(nn.Module):
    """A module under a signature: keyword inputs by name in, a dict of outputs by name out.

    litert-torch takes a signature's input names from keywords and its output names from dict keys.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The module's outputs by name; its inputs are given by position, in the order named."""
        given = self.module(*(inputs[name] for name in self.input_names))
        outputs = (given,) if isinstance(given, torch.Tensor) else tuple(given)
        if len(outputs) != len(self.output_names):
            raise BadInput(f"the model gives {len(outputs)} outputs, {len(self.output_names)} were named")
        return dict(zip(self.output_names, outputs, strict=True))


def check_module(module: nn.Module) -> None:
    """Raises BadInput for a module in training mode, or with weights that are not finite float32."""
    if any(part.training for part in module.modules()):
        raise BadInput("the model is in training mode: call eval() before converting it")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16):
            raise BadInput(f"weight {name} is {tensor.dtype}: a model is converted from float32")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadInput(f"weight {name} has values that are not finite")


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers, each storage once."""
    tensors = (*module.parameters(), *module.buffers())
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(sizes.values())


def save_program(module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], path: Path) -> None:
    """Trace the module on these inputs and store the program at `path`.

    Raises BadInput when torch.export cannot trace it, OSError when it cannot be written.
    """
    named = NamedIO(module, tuple(inputs), outputs).eval()
    try:
        with torch.no_grad():
            program = torch.export.export(named, (), dict(inputs), strict=False)
    except BadInput:
        raise
    except Exception as error:
        # torch.export raises a dozen types of its own, and whatever the model's code raises
        raise BadInput(
            f"the model cannot be traced: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    # not straight to the file: on a full disk torch's archive writer aborts the whole process
    archive = io.BytesIO()
    torch.export.save(program, archive)
    path.write_bytes(archive.getbuffer())
