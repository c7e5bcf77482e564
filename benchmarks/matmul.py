"""One transformer matmul, 197 x 768 x 3072, in emulated float16, as ratios to torch's float32 in the same run.

python benchmarks/matmul.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from fidelity.arithmetic import compiled
from fidelity.arithmetic.float16 import round_to_float16
from fidelity.arithmetic.matmul import matmul
from fidelity.arithmetic.order import Order
from fidelity.arithmetic.summation import Accumulator

M, K, N = 197, 768, 3072
REPEATS = 7


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
    parts = np.zeros(K, np.int32)
    wide_a, wide_b = torch.from_numpy(a), torch.from_numpy(b)
    yardstick = best(lambda: wide_a @ wide_b)
    rows: list[tuple[str, float]] = [("torch float32", yardstick)]
    for path in compiled.paths():
        run = partial(compiled.partial_sums, a, b, parts, 1, path)
        rows.append((f"float16 running sums, C, {path}", best(run)))
    eight = Order(lanes=4, parts=8, combine="halves")
    rows.append(("float16, eight partial sums, matmul()", best(lambda: matmul(a, b, eight, Accumulator("float16")))))
    print(
        f"{M} x {K} x {N}, {torch.get_num_threads()} threads; time / time of torch float32 ({yardstick * 1e3:.1f} ms)"
    )
    for name, seconds in rows:
        print(f"{seconds / yardstick:8.2f}  {name}")


if __name__ == "__main__":
    main()
