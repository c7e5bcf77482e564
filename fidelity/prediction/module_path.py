"""From a tensor's name to the PyTorch modules that it comes from.

The converter writes the modules' way into names, one segment a module: `timm.models.eva.EvaBlock_0/
torch.nn.modules.linear.Linear_q_proj;2`. Where it merges operations, their names are joined by `;`.
"""

from __future__ import annotations

import re

_SEGMENT = re.compile(r"^(?:[A-Za-z_]\w*\.)+(?P<cls>[A-Za-z][A-Za-z0-9]*)(?:_(?P<attribute>\w+))?$")
_SERIAL = re.compile(r"^\d+(_dequant)?$")
_TOWER = ("module", "model")
"""The product's own wrappers around what it converts (NamedIO, ImageTower)."""


def module_path(tensor: str) -> str | None:
    """The module, or the modules that the converter merged, joined by ` + `; None when the name tells none.

    The model itself is `model`. A module of a list has no attribute of its own in the name: it is told
    with its class, `EvaBlock_0`.
    """
    paths = [_path(name) for name in tensor.split(";") if name and not _SERIAL.match(name)]
    known = dict.fromkeys(path for path in paths if path)
    return " + ".join(known) or None


def block_of(module: str) -> str:
    """The outermost part of a module path: the block that it belongs to, as in `EvaBlock_2`."""
    return module.split(" + ", maxsplit=1)[0].split(".", maxsplit=1)[0]


def _path(name: str) -> str:
    parts: list[str] = []
    for segment in name.split("/"):
        match = _SEGMENT.match(segment)
        if match is None:
            return ""
        attribute = match["attribute"]
        if attribute is not None:
            parts.append(f"{match['cls']}_{attribute}" if attribute.isdigit() else attribute)
    inner = [part for place, part in enumerate(parts) if part not in _TOWER[place : place + 1]]
    return ".".join(inner) or ("model" if parts else "")
