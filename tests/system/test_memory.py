"""Too little memory, for real: a process whose address space is limited, in which torch's own allocator fails."""

import subprocess
import sys

import pytest
import torch

from explorer.system.memory import Parts, pictures_at_once

# The rest of a script, after which so many MiB more than now can be had. Threads and libraries are warm by then.
LIMITED = """
import logging, resource, sys
import torch
import explorer as ex
from explorer.cli.main import main

logging.basicConfig(format="%(message)s")
teacher = ex.load_backbone("vit_tiny_patch16_224", source="random", device="cpu")
pictures = torch.rand(15, 3, 224, 224, generator=torch.Generator().manual_seed(0))

def limit(mebibytes):
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    most = resource.RLIM_INFINITY if mebibytes is None else taken + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

def losses(out):
    config = ex.DistillConfig(steps=2, batch_size=12, probe=2, views="fixed", eval_every=9)
    return [record.losses["loss"] for record in ex.distill(teacher, pictures, config, out)]

"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the address space")


def run(script, folder, *arguments):
    command = [sys.executable, "-c", LIMITED + script, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@linux
def test_a_step_that_does_not_fit_is_shared_out(tmp_path):
    script = """
limit(850)
parts = losses("parts")
limit(None)
torch.testing.assert_close(parts, losses("whole"), atol=1e-5, rtol=1e-4)
a, b = (ex.load_pair(folder, device="cpu").student.trace(pictures[:2]).embedding for folder in ("whole", "parts"))
torch.testing.assert_close(a, b, atol=1e-3, rtol=0)
"""
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()  # once: what fitted is remembered
    assert line == "a training step with 12 pictures needs more memory than there is: going on with 6 at a time"


@linux
@pytest.mark.slow
def test_what_cannot_be_shared_out_says_what_takes_less(tmp_path):
    script = """
limit(1300)
sys.exit(main("distill --contrastive 1 --batch-size 40 --probe 2 --out run".split()))
"""
    done = run(script, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "a training step with 40 pictures needs more memory than there is" in done.stderr
    assert "take a smaller batch_size" in done.stderr
    assert "Traceback" not in done.stderr


@linux
def test_features_of_too_large_a_batch_are_those_of_a_small_one(tmp_path):
    script = """
photos = ex.load_images("photos", size=224).select(range(100))
photos.stack()  # the threads that decode have their memory now
limit(190)
large = ex.embed(teacher, photos, "gaussian_noise(sigma=0.3)", batch_size=100, cache=False)
limit(None)
small = ex.embed(teacher, photos, "gaussian_noise(sigma=0.3)", batch_size=4, cache=False)
torch.testing.assert_close(torch.tensor(large.embedding), torch.tensor(small.embedding), atol=1e-4, rtol=0)
"""
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a forward pass with 100 pictures needs more memory than there is" in done.stderr


@linux
def test_onednn_that_failed_once_is_done_without(tmp_path):
    """A thread in which oneDNN once found no memory for its machine code fails ever after, however much there is."""
    script = """
from explorer.system.memory import Parts

small, conv = torch.rand(4, 3, 20, 20), torch.nn.Conv2d(3, 8, 5)

def work(part):
    limit(0 if part == slice(0, 4) else None)
    try:
        return conv(small[part])
    finally:
        limit(None)

in_parts = [found for _, found in Parts("a pass", "take less")(work, 4)]
torch.testing.assert_close(torch.cat(in_parts), conv(small))
"""
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "a pass with 4 pictures needs more memory than there is: going on with 2 at a time"
    ]


def test_other_errors_pass_through():
    def broken(part: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(Parts("a step", "take less")(broken, 4))


def test_pictures_at_once():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [pictures_at_once(asked, cpu) for asked in (None, 1, 500)] == [8, 1, 500]
    assert [pictures_at_once(asked, gpu) for asked in (None, 1, 500)] == [32, 1, 500]
    with pytest.raises(ValueError, match="batch_size is a whole number, at least 1; got 0"):
        pictures_at_once(0, cpu)
