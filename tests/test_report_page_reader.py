"""A strict reader of the report's page for the tests, and its own check.

Stricter than a browser: every element is closed, by its own tag, and no attribute comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

VOID = {"meta", "br"}


@dataclass
class Node:
    """An element; `parts` are its children and texts in order."""

    tag: str
    attributes: dict[str, str]
    parts: list[Node | str] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This element and every one within, in document order."""
        yield self
        for part in self.parts:
            if isinstance(part, Node):
                yield from part.walk()

    def find(self, tag: str, **attributes: str) -> list[Node]:
        """Every element within of this tag; `class_` is one of the classes, others are equal."""
        name = attributes.pop("class_", None)
        return [
            node
            for node in self.walk()
            if node.tag == tag
            and (name is None or name in node.attributes.get("class", "").split())
            and all(node.attributes.get(key) == value for key, value in attributes.items())
        ]

    def text(self, leave_out: Callable[[Node], bool] = lambda _: False) -> str:
        """All text within, with one space for white space; narrow no-break spaces stay."""
        return re.sub(r"[ \t\n]+", " ", self._raw(leave_out)).strip(" ")

    def _raw(self, leave_out: Callable[[Node], bool]) -> str:
        if leave_out(self):
            return " "
        return "".join(part if isinstance(part, str) else part._raw(leave_out) for part in self.parts)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}>: an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read_page(text: str) -> Node:
    """The document's root. Raises AssertionError when it is not strictly nested."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root], f"<{reader.open[-1].tag}> is not closed"
    return reader.root


def test_it_reads() -> None:
    page = read_page('<p class="a b">x <b>y</b> &lt;z&gt;<br>w</p>')
    assert page.text() == "x y <z>w"
    assert page.find("p", class_="b")[0].find("b")[0].text() == "y"
    assert page.text(lambda node: node.tag == "b") == "x <z>w"


@pytest.mark.parametrize("text", ["<p>", "<p><b></p></b>", "</p>", '<p a="1" a="2"></p>', "<!-- x -->"])
def test_it_refuses(text: str) -> None:
    with pytest.raises(AssertionError):
        read_page(text)
