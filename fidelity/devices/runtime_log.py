"""What only the runtime's log tells: which adapter was chosen, which nodes were refused, and why.

LiteRT has no API for residency: the delegate writes "N operations will run on the GPU, and the
remaining M operations will run on the CPU" and one line a refusal to stderr (ai-edge-litert 2.3.0).
The log is untrusted text: bounded, and decoded with replacement.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from fidelity.devices.job import Adapter, Refusal, Residency

_LARGEST = 8 << 20
_SPLIT = re.compile(
    r"^(?P<gpu>[0-9]{1,9}) operations? will run on the GPU, "
    r"and the remaining (?P<cpu>[0-9]{1,9}) operations? will run on the CPU"
)
_NONE = re.compile(r"^No operations will run on the GPU, and all (?P<cpu>[0-9]{1,9}) operations? will run on the CPU")
_REFUSALS = "Following operations are not supported by GPU delegate:"
_REFUSAL = re.compile(
    r"^(?!INFO|WARNING|ERROR|VERBOSE|FATAL)(?P<op>[A-Z][A-Z0-9_]*|CUSTOM [^:]+):(?: (?P<reason>.*))?$"
)
_ADAPTER = re.compile(
    # bounded: the log is untrusted, and open-ended repeats took seconds on a hostile one
    r"Selected adapter: (?P<name>[^\n]{1,256}?), arch=[^,\n]{0,64}, [^\n]{0,512}?adapterType=(?P<type>[^\n]{1,64})"
)
_DRIVER_ERROR = re.compile(r"(?P<error>(?:Validation error|Device lost|Out of memory)[^\n]{0,300})", re.IGNORECASE)
_KERNEL = "Initializing WebGPU-based API from graph"
_TENSOR = re.compile(r"^(?P<reason>.*?[.!]|.*?\))\s+(?P<tensor>\S+)$")


def read_log(path: Path) -> str:
    """The log's text, its first 8 MiB; empty when there is none."""
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST).decode("utf-8", errors="replace")
    except OSError:
        return ""


def adapter(log: str) -> Adapter | None:
    """The adapter that the runtime says it chose, the first time it says so."""
    match = _ADAPTER.search(log)
    if match is None:
        return None
    return Adapter(name=match["name"].strip(), software="software" in match["type"].lower())


def driver_error(log: str) -> str | None:
    """The first error that the driver reported and the runtime passed over; None when there is none.

    ai-edge-litert 2.3.0 runs on after such an error: the work is not done and every output is zero.
    """
    match = _DRIVER_ERROR.search(log)
    return None if match is None else " ".join(match["error"].split())


def residency(log: str, nodes: int, *, fully_accelerated: bool) -> Residency | None:
    """Residency of the first compilation in the log; None when the log does not tell.

    `nodes` is the graph's own count. A log that splits the nodes is believed over the API; without
    one, only `fully_accelerated` and at least one delegate kernel make N of N. Anything else, as a
    split that does not add up to the graph, is not known.
    """
    lines = log.splitlines()
    partitions = 0
    split = None
    for line in lines:
        if match := _SPLIT.match(line):
            if split is not None:  # the GPU alone refused, and what follows is the second compilation
                break
            split = (int(match["gpu"]), int(match["cpu"]), line.strip())
        elif (match := _NONE.match(line)) and split is None:
            split = (0, int(match["cpu"]), line.strip())
        partitions += _KERNEL in line
    if split is not None:
        gpu, cpu, line = split
        if gpu + cpu != nodes:
            return None
        return Residency(
            nodes_on_device=gpu,
            nodes_total=nodes,
            partitions=max(partitions, int(gpu > 0)),
            refusals=refusals(lines),
            source=line,
        )
    if fully_accelerated and partitions > 0:
        return Residency(
            nodes_on_device=nodes,
            nodes_total=nodes,
            partitions=partitions,
            source="is_fully_accelerated, and no node refused in the log",
        )
    return None


def refusals(lines: list[str]) -> tuple[Refusal, ...]:
    """Every refusal of the first list in the log, equal ones counted."""
    counted: Counter[tuple[str, str, str | None]] = Counter()
    inside = False
    for line in lines:
        if line.endswith(_REFUSALS):
            inside = True
        elif inside:
            match = _REFUSAL.match(line)
            if match is None:
                break
            reason, tensor = _reason(match["reason"] or "the delegate gives no reason")
            counted[match["op"], reason, tensor] += 1
    return tuple(Refusal(op=op, reason=why, tensor=t, count=n) for (op, why, t), n in counted.items())


def _reason(text: str) -> tuple[str, str | None]:
    """A refusal's sentence and the tensor name that may follow it."""
    match = _TENSOR.match(text)
    if match is None or ("/" not in match["tensor"] and ";" not in match["tensor"]):
        return text.strip(), None
    return match["reason"].strip(), match["tensor"]
