"""Where a model comes from: `timm:NAME`, optionally with constructor options.

`timm:vit_pe_core_base_patch16_224` is the reference model. `timm:NAME?depth=2&img_size=64` builds
the same architecture with timm's own constructor arguments changed, which is how the small models
of the tests, goldens and the survey are made: real code, less of it. A list is written as JSON does
(`depths=[1,1]`). `input_size=64` is timm's configuration of the image, for a model whose constructor
takes none because any size fits it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import Record

if TYPE_CHECKING:
    from torch import nn

Scalar = bool | int | float | str
INPUT_SIZE = "input_size"
_LONGEST = 32  # entries of a list: depths, widths, heads by stage

_SOURCE = re.compile(r"^timm:(?P<name>[A-Za-z0-9_.\-]+)(?:\?(?P<options>.+))?$")


class Source(Record):
    """A timm architecture: its registered name and constructor options (JSON scalars, and lists of numbers)."""

    name: str
    options: dict[str, Scalar | tuple[int | float, ...]] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The source written as `timm:NAME[?key=value&...]`. Raises BadInput."""
        match = _SOURCE.fullmatch(text)
        if match is None:
            raise BadInput(f"source {text!r}: expected timm:NAME, as in timm:vit_pe_core_base_patch16_224")
        options: dict[str, Any] = {}
        for pair in filter(None, (match["options"] or "").split("&")):
            key, separator, value = pair.partition("=")
            if not separator or not key.isidentifier():
                raise BadInput(f"source {text!r}: option {pair!r} is not key=value")
            options[key] = _option(value)
        return cls(name=match["name"], options=options)

    def __str__(self) -> str:
        if not self.options:
            return f"timm:{self.name}"
        return f"timm:{self.name}?" + "&".join(f"{k}={_text(v)}" for k, v in self.options.items())

    def build(self, *, pretrained: bool = False) -> nn.Module:
        """The torch module in eval mode, float32, on the CPU; weights as timm initialises them.

        `pretrained` loads timm's published weights from the hub. Raises BadInput for an unknown
        name or option, EnvironmentMissing without timm or, for pretrained, without the hub.
        """
        timm = _timm()
        if not timm.is_model(self.name.split(".", maxsplit=1)[0]):
            close = timm.list_models(f"*{self.name.split('.', maxsplit=1)[0][:12]}*")[:4]
            hint = f"; close: {', '.join(close)}" if close else ""
            raise BadInput(f"source timm:{self.name}: timm {timm.__version__} has no such model{hint}")
        try:
            model: nn.Module = timm.create_model(self.name, pretrained=pretrained, **self._arguments())
        except (TypeError, AssertionError, ValueError) as error:
            raise BadInput(f"source {self}: timm refuses these options: {_one_line(error)}") from error
        except Exception as error:
            if not pretrained:
                raise
            # huggingface_hub, urllib and httpx raise a dozen unrelated types when a hub is out of reach
            raise EnvironmentMissing(
                f"weights 'pretrained': timm could not load {self.name} from its hub "
                f"({type(error).__name__}: {_one_line(error)}); download the checkpoint elsewhere "
                "and give it with --weights file:PATH"
            ) from error
        return model.eval()

    def _arguments(self) -> dict[str, Any]:
        """The options as create_model takes them; the size of the image goes into timm's own configuration."""
        arguments: dict[str, Any] = dict(self.options)
        if INPUT_SIZE in arguments:
            size = arguments.pop(INPUT_SIZE)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise BadInput(f"source {self}: {INPUT_SIZE} is the side of a square image in pixels, as in 64")
            arguments["pretrained_cfg_overlay"] = {INPUT_SIZE: (3, size, size)}
        return arguments


def _option(value: str) -> Scalar | tuple[int | float, ...]:
    """A JSON scalar, a JSON list of numbers, or else the text as it stands."""
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if isinstance(parsed, list) and len(parsed) <= _LONGEST and all(type(each) in (int, float) for each in parsed):
        return tuple(parsed)
    return parsed if isinstance(parsed, bool | int | float) else value


def _text(value: Scalar | tuple[int | float, ...]) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _timm() -> Any:
    try:
        import timm  # noqa: PLC0415 - an extra: the core must import without it
    except ImportError as error:
        raise EnvironmentMissing(
            "timm is not installed: a source model needs the extra, pip install 'fidelity[convert]'"
        ) from error
    return timm
