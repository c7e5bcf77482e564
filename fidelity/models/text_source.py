"""Where a text tower comes from: `open_clip:NAME`, optionally with another size.

`open_clip:PE-Core-B-16` is the tower that PE-Core B/16's image embeddings are compared with.
`open_clip:NAME?width=64&layers=2` is the same code with less of it, for tests and pages. Configuration
and tokenizer are the package's own files: no hub is asked. Only the text tower is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import Record

if TYPE_CHECKING:
    from torch import nn

Encode = Callable[[str], list[int]]
"""A prompt's tokens, without the one that starts and the one that ends it."""

SIZES = ("embed_dim", "width", "heads", "layers", "context_length")
_SOURCE = re.compile(r"^open_clip:(?P<name>[A-Za-z0-9_.\-]+)(?:\?(?P<options>.+))?$")
_LARGEST = 1 << 16


class TextSource(Record):
    """One of open_clip's models by name, with sizes of its text tower changed."""

    name: str
    options: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The source written as `open_clip:NAME[?size=number&...]`. Raises BadInput."""
        match = _SOURCE.fullmatch(text)
        if match is None:
            raise BadInput(f"model {text!r}: expected open_clip:NAME, as in open_clip:PE-Core-B-16")
        options = {}
        for pair in filter(None, (match["options"] or "").split("&")):
            key, _, value = pair.partition("=")
            if key not in SIZES or not re.fullmatch(r"[0-9]{1,6}", value) or not 0 < int(value) <= _LARGEST:
                raise BadInput(f"model {text!r}: option {pair!r}: expected one of {', '.join(SIZES)}, as in width=64")
            options[key] = int(value)
        return cls(name=match["name"], options=options)

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"open_clip:{self.name}{f'?{options}' if options else ''}"

    def build(self) -> nn.Module:
        """The text tower in eval mode, float32, on the CPU; weights as open_clip initialises them.

        Token numbers [N, context_length] to [N, embed_dim], not normalised. Raises BadInput for an unknown
        model, sizes that do not fit each other, and a tower whose own files are on a hub.
        """
        package, config = open_clip(), self._config()
        from open_clip.model import _build_text_tower  # noqa: PLC0415 - the whole model would build the vision tower

        try:
            tower: nn.Module = _build_text_tower(
                config["embed_dim"], config["text_cfg"], quick_gelu=bool(config.get("quick_gelu", False))
            )
        except (TypeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"model {self}: open_clip {package.__version__} refuses these sizes: {reason}") from error
        return tower.eval()

    def tokenizer(self) -> Tokenizer:
        """How this tower's text becomes numbers. Raises BadInput as `build` does."""
        length = int(self._config()["text_cfg"].get("context_length", 77))
        return Tokenizer(open_clip().get_tokenizer(self.name, context_length=length), length)

    def _config(self) -> dict[str, Any]:
        package = open_clip()
        config: dict[str, Any] | None = package.get_model_config(self.name)
        if config is None:
            family = self.name[:7].lower()
            close = [name for name in package.list_models() if name.lower().startswith(family)][:5]
            hint = f"; close: {', '.join(close)}" if close else ""
            raise BadInput(f"model {self}: open_clip {package.__version__} has no such model{hint}")
        text = config["text_cfg"]
        if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
            raise BadInput(f"model {self}: its text tower or tokenizer is on a hub, not in open_clip: not supported")
        for key, value in self.options.items():
            (config if key == "embed_dim" else text)[key] = value
        return config


class Tokenizer:
    """Prompts as token numbers. Refuses what open_clip's own tokenizer cuts off in silence."""

    def __init__(self, tokenize: Any, context_length: int) -> None:
        self._tokenize = tokenize
        self.context_length = context_length

    def __call__(self, prompts: list[str]) -> Any:
        """An int64 tensor [N, context_length]. Raises BadInput for a prompt that is too long or empty."""
        for prompt in prompts:
            length = len(self._tokenize.encode(prompt)) + 2  # start and end
            if length > self.context_length:
                raise BadInput(
                    f"prompt {prompt[:60]!r}: {length} tokens, the tower takes {self.context_length}: shorten it"
                )
            if length == 2:
                raise BadInput(f"prompt {prompt[:60]!r}: nothing in it that the tokenizer knows")
        return self._tokenize(prompts, context_length=self.context_length)


def open_clip() -> Any:
    """The package. Raises EnvironmentMissing without it."""
    try:
        import open_clip as package  # noqa: PLC0415 - an extra: the core must import without it
    except ImportError as error:
        raise EnvironmentMissing(
            "open_clip is not installed: label embeddings need the extra, pip install 'fidelity[labels]'"
        ) from error
    return package
