"""One transformer matmul, 197 x 768 x 3072, in emulated float16, as ratios to torch's float32 in the same run.

python benchmarks/matmul.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import Conversion, round_to_float16
from fidelity.arithmetic.matmul import matmul, right_side
from fidelity.arithmetic.observe import Observer, unobserved
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator

M, K, N = 197, 768, 3072
REPEATS = 7
HALF = Accumulator("float16")


def seen(part: str, values: NDArray[np.float32]) -> None:
    """An observer, for whom the largest magnitude of every running sum is kept."""


CASES: tuple[tuple[str, Accumulator, bool, Observer], ...] = (
    ("float16 sums", HALF, False, unobserved),
    ("float16 sums, observed", HALF, False, seen),
    ("float16 sums, fused", HALF, True, unobserved),
    ("float16 sums toward zero", Accumulator("float16", Conversion("toward_zero")), False, unobserved),
    ("float32 sums", Accumulator(), False, unobserved),
    ("float32 sums, fused", Accumulator(), True, unobserved),
)


def best(run: Callable[[], object]) -> float:
    """Least of several times, in seconds: what other work on the machine disturbs least."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    generator = np.random.Generator(np.random.Philox(0))
    a = round_to_float16(generator.standard_normal((M, K)))
    b = round_to_float16(generator.standard_normal((K, N)))
    wide_a, wide_b, right = torch.from_numpy(a), torch.from_numpy(b), right_side(b)
    yardstick = best(lambda: wide_a @ wide_b)
    rows: list[tuple[str, float]] = [("torch float32", yardstick)]
    for path in compiled.paths():
        for name, accumulator, fused, observe in CASES:
            with compiled.on_path(path):
                run = partial(matmul, a, right, Order(), accumulator, fused=fused, observe=observe)
                rows.append((f"{path}, {name}", best(run)))
    eight = Order(lanes=4, parts=8, combine="halves")
    rows.append(("eight float16 sums, combined", best(lambda: matmul(a, right, eight, HALF))))
    print(
        f"{M} x {K} x {N}, {torch.get_num_threads()} threads; time / time of torch float32 ({yardstick * 1e3:.1f} ms)"
    )
    for name, seconds in rows:
        print(f"{seconds / yardstick:8.2f}  {name}")


if __name__ == "__main__":
    main()
