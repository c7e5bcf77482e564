"""The process that converts: `python -m fidelity.tflite.conversion_worker convert|convert-many|cast ...`.

The converter prints progress, takes 2.7 to 3.0 GB for B/16, and ends its own process when a disk is full
("LLVM ERROR: IO failure on output stream"); none of that may happen to the process that asked.
Whatever goes wrong is a traceback on stderr and a non-zero exit code, for the parent to tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def convert_program(program: Path, signature: str, output: Path) -> None:
    """Convert a program stored by export_program to a float32 .tflite with one signature."""
    import litert_torch  # noqa: PLC0415 - an extra, and slow to import
    import torch  # noqa: PLC0415

    exported = torch.export.load(program)
    program.unlink()  # its disk space may be needed for the artefact
    args, kwargs = exported.example_inputs
    module = exported.module()
    converter = litert_torch.signature(signature, module, sample_args=args or None, sample_kwargs=kwargs)
    converter.convert().export(str(output))


def convert_programs(folder: Path, numbers: Sequence[int], signature: str, *, half: bool) -> None:
    """Convert program-N.pt2 of a folder to float32-N.tflite for each N, and cast it to float16-N.tflite.

    One after the other in one process, which imports the converter once: each has the bytes that it has alone.
    """
    for number in numbers:
        made = folder / f"float32-{number}.tflite"
        convert_program(folder / f"program-{number}.pt2", signature, made)
        if half:
            cast_float16(made, folder / f"float16-{number}.tflite")


def cast_float16(source: Path, output: Path) -> None:
    """Store the weights of FULLY_CONNECTED and convolutions as float16, with a DEQUANTIZE before each use."""
    from ai_edge_quantizer import qtyping, quantizer  # noqa: PLC0415 - an extra

    caster = quantizer.Quantizer(str(source))
    caster.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
    )
    model = caster.quantize().quantized_model
    if model is None:
        raise RuntimeError("ai-edge-quantizer gave no model")
    output.write_bytes(model)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="fidelity.tflite.conversion_worker")
    verbs = parser.add_subparsers(dest="verb", required=True)
    convert = verbs.add_parser("convert")
    convert.add_argument("program", type=Path)
    convert.add_argument("signature")
    convert.add_argument("output", type=Path)
    many = verbs.add_parser("convert-many")
    many.add_argument("folder", type=Path)
    many.add_argument("signature")
    many.add_argument("numbers", type=int, nargs="+")
    many.add_argument("--half", action="store_true")
    cast = verbs.add_parser("cast")
    cast.add_argument("source", type=Path)
    cast.add_argument("output", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "convert":
        convert_program(arguments.program, arguments.signature, arguments.output)
    elif arguments.verb == "convert-many":
        convert_programs(arguments.folder, arguments.numbers, arguments.signature, half=arguments.half)
    else:
        cast_float16(arguments.source, arguments.output)


if __name__ == "__main__":
    main()
