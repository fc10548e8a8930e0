"""ovseg.engine.memory in a process of its own, because the setting is the process'."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from ovseg.engine.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
assert keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 20 * 2048 / 4, "most 8 MiB tensors were given fresh pages"
