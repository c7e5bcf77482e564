"""What is read out of a runtime's log: verbatim excerpts (ai-edge-litert 2.3.0), and text that lies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidelity.devices.job import Refusal, Residency
from fidelity.devices.runtime_log import adapter, driver_error, read_log, refusals, residency

ATTN = "timm.models.eva.EvaBlock_0/timm.layers.attention.AttentionRope_attn;16"
SELECTED = (
    "I0000 00:00:1795495392.067004   26081 environment.cc:532] Selected adapter: llvmpipe (LLVM 15.0.6, 256 bits), "
    "arch=software, vendor=mesa, backend=Vulkan, adapterType=CPU / Software\n"
)
KERNEL = "I0000 00:00:1795495391.269449   26072 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.\n"
SPLIT = "50 operations will run on the GPU, and the remaining 180 operations will run on the CPU.\n"
REFUSED = (
    "ERROR: Following operations are not supported by GPU delegate:\n"
    "BATCH_MATMUL: Not supported batched mat mul case: non-constant tensor\n"
    f"CONCATENATION: Tensor dimensions must be less than 5. {ATTN}\n"
    f"RESHAPE: Tensor dimensions must be less than 5. {ATTN}\n"
    f"RESHAPE: Tensor dimensions must be less than 5. {ATTN}\n"
)
NOISE = "INFO: [delegate_webgpu.cc:363] Created a WebGPU environment.\n"
RESIDENT = NOISE + SELECTED + NOISE + KERNEL
PARTLY = NOISE + SELECTED + REFUSED + SPLIT + KERNEL


def test_a_resident_graph_is_known_by_the_api_and_its_kernel() -> None:
    found = residency(RESIDENT, 204, fully_accelerated=True)
    assert found is not None
    assert (found.nodes_on_device, found.nodes_total, found.partitions, found.refusals) == (204, 204, 1, ())
    assert found.full


@pytest.mark.parametrize(("log", "accelerated"), [(RESIDENT, False), (NOISE + SELECTED, True), ("", True), ("", False)])
def test_without_both_it_is_not_known(log: str, accelerated: bool) -> None:
    assert residency(log, 204, fully_accelerated=accelerated) is None


def test_a_split_is_read_with_its_refusals() -> None:
    found = residency(PARTLY, 230, fully_accelerated=False)
    assert found == Residency(
        nodes_on_device=50,
        nodes_total=230,
        partitions=1,
        refusals=(
            Refusal(op="BATCH_MATMUL", reason="Not supported batched mat mul case: non-constant tensor"),
            Refusal(op="CONCATENATION", reason="Tensor dimensions must be less than 5.", tensor=ATTN),
            Refusal(op="RESHAPE", reason="Tensor dimensions must be less than 5.", tensor=ATTN, count=2),
        ),
        source=SPLIT.strip(),
    )
    assert not found.full


def test_the_log_is_believed_over_the_api() -> None:
    """With the CPU's help the API counts XNNPACK as an accelerator and says yes."""
    found = residency(PARTLY, 230, fully_accelerated=True)
    assert found is not None
    assert not found.full


@pytest.mark.parametrize("nodes", [0, 50, 229, 231])
def test_a_split_that_does_not_add_up_to_the_graph_is_not_believed(nodes: int) -> None:
    assert residency(PARTLY, nodes, fully_accelerated=True) is None


def test_only_the_first_compilation_counts() -> None:
    """The GPU alone refuses, then the GPU with the CPU is compiled: the same lines again."""
    again = REFUSED.replace("BATCH_MATMUL", "GATHER") + SPLIT.replace("50", "51").replace("180", "179") + KERNEL
    once = residency(PARTLY, 230, fully_accelerated=False)
    assert residency(PARTLY + again, 230, fully_accelerated=False) == once
    assert once is not None
    assert once.partitions == 1


def test_several_partitions_are_counted() -> None:
    found = residency(REFUSED + SPLIT + KERNEL * 3, 230, fully_accelerated=False)
    assert found is not None
    assert found.partitions == 3
    resident = residency(SELECTED + KERNEL * 2, 9, fully_accelerated=True)
    assert resident is not None
    assert not resident.full  # every node on the device, and yet handed to and fro


def test_nothing_on_the_device_is_no_partition() -> None:
    log = "0 operations will run on the GPU, and the remaining 7 operations will run on the CPU.\n"
    found = residency(log, 7, fully_accelerated=False)
    assert found is not None
    assert (found.nodes_on_device, found.partitions, found.full) == (0, 0, False)


def test_a_graph_that_is_refused_whole_is_on_the_cpu_whole() -> None:
    log = f"{REFUSED}No operations will run on the GPU, and all 7 operations will run on the CPU.\n"
    found = residency(log, 7, fully_accelerated=False)
    assert found is not None
    assert (found.nodes_on_device, found.nodes_total, found.partitions, found.full) == (0, 7, 0, False)
    assert found.refusals
    assert residency(log, 8, fully_accelerated=False) is None


def test_a_refusal_without_a_reason_does_not_end_the_list() -> None:
    head, *rest = REFUSED.splitlines()
    for bare in ("DEQUANTIZE: ", "DEQUANTIZE:"):
        found = refusals([head, bare, *rest])
        assert (found[0].op, found[0].reason) == ("DEQUANTIZE", "the delegate gives no reason")
        assert found[1:] == refusals([head, *rest])


def test_one_operation_is_told_in_the_singular() -> None:
    log = "6 operations will run on the GPU, and the remaining 1 operation will run on the CPU.\n"
    found = residency(log, 7, fully_accelerated=False)
    assert found is not None
    assert found.nodes_on_device == 6


@pytest.mark.parametrize(
    "line",
    [
        "-3 operations will run on the GPU, and the remaining 10 operations will run on the CPU",
        "7 operations will run on the CPU, and the remaining 0 operations will run on the GPU",
        "tensor: 7 operations will run on the GPU, and the remaining 0 operations will run on the CPU",
        "7 operations will run on the GPU",
    ],
)
def test_what_only_looks_like_a_split_is_none(line: str) -> None:
    assert residency(f"{line}\n", 7, fully_accelerated=False) is None


def test_a_number_too_long_to_read_is_not_an_error() -> None:
    """Python refuses to make an integer of more than 4300 digits, with a ValueError."""
    line = f"{'9' * 5000} operations will run on the GPU, and the remaining 0 operations will run on the CPU"
    assert residency(line, 7, fully_accelerated=False) is None


def test_digits_of_another_script_are_no_harm() -> None:
    line = "\u0667 operations will run on the GPU, and the remaining 0 operations will run on the CPU"
    found = residency(line, 7, fully_accelerated=False)
    assert found is None or found.nodes_on_device == 7


def test_custom_operations_and_reasons_with_brackets() -> None:
    log = (
        "Following operations are not supported by GPU delegate:\n"
        "CUSTOM my.op: Operation is not supported.\n"
        "FULLY_CONNECTED: Expected 1 runtime input(s), got 2 (of 3) model/linear\n"
        "SLICE: Only strides of 1 ends here\n"
        "INFO: and the list is over\n"
        "GATHER: This line is not of the list.\n"
    )
    assert refusals(log.splitlines()) == (
        Refusal(op="CUSTOM my.op", reason="Operation is not supported."),
        Refusal(op="FULLY_CONNECTED", reason="Expected 1 runtime input(s), got 2 (of 3)", tensor="model/linear"),
        Refusal(op="SLICE", reason="Only strides of 1 ends here"),
    )


def test_the_adapter_is_the_first_one_chosen() -> None:
    found = adapter(NOISE + SELECTED + SELECTED.replace("llvmpipe", "other"))
    assert found is not None
    assert (found.name, found.software) == ("llvmpipe (LLVM 15.0.6, 256 bits)", True)
    hardware = adapter(
        "Selected adapter: Adreno (TM) 740, arch=adreno-7xx, vendor=qualcomm, backend=Vulkan, "
        "adapterType=Integrated GPU\n"
    )
    assert hardware is not None
    assert (hardware.name, hardware.software) == ("Adreno (TM) 740", False)
    assert adapter(NOISE) is None
    assert adapter("Selected adapter: \n") is None


@given(st.text(), st.integers(0, 2**31), st.booleans())
def test_any_text_is_read(text: str, nodes: int, accelerated: bool) -> None:
    found = residency(text, nodes, fully_accelerated=accelerated)
    adapter(text)
    assert found is None or 0 <= found.nodes_on_device <= found.nodes_total


PIECES = st.sampled_from(
    [*REFUSED.splitlines(True), SPLIT, KERNEL, SELECTED, NOISE, "RESHAPE: ", ": x\n", "\0", "\u2028"]
)


@given(st.lists(PIECES, max_size=30), st.sampled_from([0, 229, 230]))
def test_any_mixture_of_real_lines_is_read(pieces: list[str], nodes: int) -> None:
    """Whatever the order, N of N is only said of the graph's own N."""
    found = residency("".join(pieces), nodes, fully_accelerated=True)
    assert found is None or found.nodes_total == nodes


@pytest.mark.parametrize(
    "text",
    [
        "Selected adapter: " * 10_000,
        "Selected adapter: " + "a" * 4_000_000,
        "Selected adapter: x, arch=" + "b" * 4_000_000,
        "Selected adapter: x, arch=y, " * 800,
        "Following operations are not supported by GPU delegate:\nADD: " + "a." * 40_000,
        "Following operations are not supported by GPU delegate:\n" + "ADD: x (y) z/z\n" * 200_000,
        "Following operations are not supported by GPU delegate:\nADD: " + ") " * 60_000,
        SPLIT * 100_000,
    ],
    ids=["marks", "name", "arch", "lines", "dots", "refusals", "brackets", "splits"],
)
def test_a_log_made_to_be_slow_is_read_in_time(text: str) -> None:
    """Read in milliseconds; a pattern that backtracks from each mark takes minutes."""
    started = time.monotonic()
    adapter(text)
    residency(text, 230, fully_accelerated=True)
    assert time.monotonic() - started < 3


def test_a_log_is_read_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert read_log(path) == ""
    path.write_bytes(b"\xff\xfe ok\n")
    assert read_log(path) == "\ufffd\ufffd ok\n"
    with path.open("wb") as stream:
        stream.truncate(64 << 30)  # sparse: 64 GiB that take no room
    assert len(read_log(path)) == 8 << 20
    assert read_log(tmp_path) == ""


VALIDATION = """E0000 00:00:1795597734.4 26401 environment.cc:105] Validation error: Binding size (186384384) is \
larger than the maximum storage buffer binding size (134217728).
 - While validating entries[0] against { binding: 1, visibility: ShaderStage::Compute }.
E0000 00:00:1795597734.444643   26401 environment.cc:105] Validation error: [Invalid BindGroup] is invalid.
"""


def test_an_error_that_the_runtime_passes_over_is_told() -> None:
    """Measured: a tensor of over 128 MiB gives zeros and no error of the runtime's own."""
    found = driver_error(f"INFO: fine\n{VALIDATION}")
    assert found is not None
    assert found.startswith("Validation error: Binding size (186384384)")
    assert driver_error("WARNING: NPU accelerator could not be loaded\n") is None
