"""The form that LiteRT's accuracy_debugger reads: a model, and one `.raw` file for each of its inputs.

As read in google-ai-edge/LiteRT at 08e46ce8 (litert/tools/accuracy_debugger/accuracy_debugger_util.cc) and 29b72a40
(litert/tools/tensor_utils.cc). The tool cuts the model into operators, or into islands that end at
`--boundary_tensors`, gives each cut-out a signature whose names are the tensors' own, and reads
`<input_dir>/<name>.raw` of the first: raw little-endian elements in C order. So a tensor must be named as its file may
be, and the boundary must be the last result: then all of the piece is one island, whose inputs are read.
`run_model --input_dir` reads the same files by the signature's names.

The tool itself is not in the ai-edge-litert wheel; it is built from source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fidelity.devices.tensor_files import safe_name
from fidelity.localisation.emulations import parsed
from fidelity.localisation.on_device import Array
from fidelity.tflite.build import signature_def
from fidelity.tflite.edit import KEY, with_taps

READ_AT = "08e46ce81a2a7b4e0747260f3fc82460891ff77a"
"""The commit of google-ai-edge/LiteRT whose accuracy_debugger was read."""

_LAST = "last_result"


@dataclass(frozen=True)
class ForDebugger:
    """The model under plain names, the inputs' raw files by those names, and the tensor that ends the one island."""

    model: bytes
    inputs: Mapping[str, bytes]
    boundary: str


def for_debugger(model: bytes, inputs: Mapping[str, Array]) -> ForDebugger:
    """The same graph, options and weights; its inputs and outputs are named as their files are.

    Raises BadInput for a model that cannot be written again.
    """
    graph = parsed(model)
    entry = graph.signature()
    main = graph.main
    last = main.operators[-1].outputs[0]
    given, got = ({safe_name(name): index for name, index in each} for each in (entry.inputs, entry.outputs))
    names = {last: _LAST} | {index: name for each in (got, given) for name, index in each.items()}
    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(with_taps(graph, ()), 0))
    (subgraph,) = tree.subgraphs
    for index, name in names.items():
        subgraph.tensors[index].name = name
    tree.signatureDefs = [signature_def(KEY, given, got)]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(tree.Pack(builder), b"TFL3")
    raw = {safe_name(name): np.ascontiguousarray(array).tobytes() for name, array in inputs.items()}
    return ForDebugger(bytes(builder.Output()), raw, names[last])
