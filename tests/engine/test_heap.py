"""Memory that nobody uses goes back to the system."""

import subprocess
import sys

import pytest

from deni.engine import heap

# In a separate process, since what other tests have freed would be in the figures.
SCRIPT = """
import psutil, torch
from deni.engine import heap

blocks = [torch.ones(25_000) for _ in range(4000)]  # of 100 kB
last = blocks.pop()  # above all the holes
del blocks
before = psutil.Process().memory_info().rss
heap.trim()
print(before - psutil.Process().memory_info().rss)
assert bool((last == 1).all())
"""


@pytest.mark.skipif(heap._malloc_trim() is None, reason="only glibc has malloc_trim")
def test_holes_go_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 300 * 2**20
