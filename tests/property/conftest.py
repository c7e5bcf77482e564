"""Let the tests of this folder import its own modules by name; one thread for its tiny matrices."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
