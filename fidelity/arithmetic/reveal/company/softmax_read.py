"""How a softmax's shares are stored where one elementwise operation alone reads them: told by adding zeros."""

from __future__ import annotations

from collections.abc import Sequence

from fidelity.arithmetic.float16 import Conversion, rounded
from fidelity.arithmetic.kernels import elementwise, softmax
from fidelity.arithmetic.profile import Profile
from fidelity.arithmetic.reveal.company import graphs
from fidelity.arithmetic.reveal.conversions import ANY
from fidelity.arithmetic.reveal.evidence import Findings
from fidelity.arithmetic.reveal.experiment import NotTold, same
from fidelity.arithmetic.reveal.softmax import rows_of
from fidelity.arithmetic.rules import SOFTMAX, Elementwise, Share, Softmax

Single = graphs.Single
_TERMS, _ROWS = 3, 256
FORMS: tuple[Conversion | None, ...] = (None, *(each for each in ANY if each is not None))
"""`stored_absorbed` None: stored as elsewhere; so storing nothing where the rule stores is not among them."""


def find_read(profile: Profile, laboratory: graphs.CompanyLaboratory, findings: Findings) -> tuple[Share, ...]:
    """The shares of SOFTMAX with `stored_absorbed`. Raises NotTold where nothing explains what is seen."""
    rule, add = profile.rules.get(SOFTMAX), profile.rules.get("ADD")
    if not isinstance(rule, Softmax) or not isinstance(add, Elementwise):
        raise NotTold("SOFTMAX or ADD has no rule of its own")
    asked = [_rows(rule.shares, place) for place in range(len(rule.shares))]
    probes = [graphs.softmax(x, read=True) for each in asked for x in each]
    answers = iter(graphs.numbers(laboratory, probes))
    found: list[Share] = []
    for share, each in zip(rule.shares, asked, strict=True):
        pairs = [(x, next(answers)) for x in each]
        left = [form for form in FORMS if _explains(form, rule, pairs, add, profile)]
        if not left:
            raise NotTold(f"no conversion explains a softmax of {pairs[0][0].shape[2]} rows that ADD reads")
        findings.found(
            f"rules.SOFTMAX.shares[{len(found)}].stored_absorbed",
            f"{len(pairs)} softmaxes of {pairs[0][0].shape[2]} rows, read by ADD of zeros alone",
            f"stored {left[0] or 'as alone'}",
            f"{len(FORMS) - len(left)} of {len(FORMS)} conversions",
        )
        found.append(share.model_copy(update={"stored_absorbed": left[0]}))
    return tuple(found)


def _rows(shares: Sequence[Share], place: int) -> list[Single]:
    """Rows of three terms, as many at a time as the share is for: the most where that is bounded, else the fewest."""
    before = [share.when["rows"].at_most or 0 for share in shares[:place] if "rows" in share.when]
    bounds = shares[place].when.get("rows")
    rows = max([bounds.at_least or 0 if bounds else 0, *(each + 1 for each in before), 1])
    if bounds is not None and bounds.at_most is not None:
        rows = bounds.at_most
    return [rows_of(_TERMS, rows, seed) for seed in range(-(-_ROWS // rows))]


def _explains(
    form: Conversion | None,
    rule: Softmax,
    pairs: Sequence[tuple[Single, Single]],
    add: Elementwise,
    profile: Profile,
) -> bool:
    shares = tuple(share.model_copy(update={"stored_absorbed": form}) for share in rule.shares)
    tried = rule.model_copy(update={"shares": shares})
    for x, seen in pairs:
        y = softmax.softmax(rounded(x, profile.inputs), tried, absorbed=True)
        zeros = y * 0
        if not same(seen, rounded(elementwise.binary("ADD", y, zeros, add), profile.outputs)):
            return False
    return True
