"""What a step frees stays with the process."""

import platform
import subprocess
from collections.abc import Callable

import pytest

PROGRAM = """
import resource, sys
import torch
from trainables.parts.training.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told to keep freed memory")
def test_the_next_step_finds_the_memory_that_the_last_one_freed(
    start_python: Callable[..., "subprocess.Popen[str]"],
) -> None:
    def page_faults(mode: str) -> int:
        return int(start_python("-c", PROGRAM, mode, stdout=subprocess.PIPE).communicate()[0])

    assert page_faults("keep") < 100 < page_faults("as it is")
