"""Untrusted text made fit to be shown: tensor names, log lines and adapter names come from anywhere.

Escaping for HTML or XML is the writers' job; it leaves control characters (which XML 1.0 cannot hold
at all) and characters that reorder or hide the text around them. Those become visible escapes here.
"""

from __future__ import annotations

import re

LONGEST = 4000
"""Characters that are shown of one text; report.json has the whole of it."""

# Control characters except tab and newline, lone surrogates and XML's two non-characters; then what
# is invisible or reorders: soft hyphen, zero-width and direction marks, line separators, byte order
# mark, tag characters. The first group is what XML 1.0 forbids (plus C1 controls and carriage return).
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    "\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` with every unfit character as a Python escape (`\\x00`, `\\u202e`), cut at `longest`.

    A cut is told in the text itself with the full length, so nothing disappears unsaid.
    """
    shown = _UNFIT.sub(_escape, text[:longest])
    return shown if len(text) <= longest else f"{shown}... ({len(text)} characters)"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
