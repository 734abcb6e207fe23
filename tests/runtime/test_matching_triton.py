"""The fused matching kernel: in Triton's interpreter, compiled for devices that are not there, and on a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asymrnr.errors import AsymRnRError
from asymrnr.matching import match_chunked, match_tokens
from asymrnr.partition import make_partition
from tests.runtime.matching_cases import DTYPES, METRICS, check_close, check_ties, clustered

PARTITION = make_partition((4, 6, 6), (2, 2, 2), torch.Generator().manual_seed(0))
SHARED_MEMORY = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}
"""Bytes a program may use, by compute capability (CUDA programming guide)."""


def test_equals_the_reference_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="the kernel needs triton")
    root = Path(__file__).parents[2]
    module = Path(__file__).with_name("matching_interpreted.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(module)],
        cwd=root,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("capability", SHARED_MEMORY)
@pytest.mark.parametrize(
    ("metric", "dtype", "dim"),
    [("euclidean", "bf16", 64), ("euclidean", "bf16", 128), ("euclidean", "bf16", 1920), ("cosine", "fp32", 128)],
)
def test_compiles_for_devices_within_their_shared_memory(metric: str, dtype: str, dim: int, capability: int) -> None:
    triton = pytest.importorskip("triton", reason="the kernel needs triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from asymrnr.matching_triton import constants, nearest_kernel, tiles_for

    features = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    arrays = {"features": f"*{dtype}", "destinations": f"*{dtype}", "src": "*i64", "slot": "*i32"}
    arrays |= dict.fromkeys(("centre", "offset", "scale", "distance"), "*fp32")
    tiles = tiles_for(dim, features)
    settings = constants(metric, dim, features, tiles)  # type: ignore[arg-type]
    signature = {n: "constexpr" if n in settings else arrays.get(n, "i32") for n in nearest_kernel.arg_names}
    source = ASTSource(nearest_kernel, signature, constexprs=settings)
    options = {"enable_fp_fusion": True, "num_warps": tiles.warps, "num_stages": tiles.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert "mma" in compiled.asm["ptx"]  # on the tensor cores
    assert compiled.metadata.shared <= SHARED_MEMORY[capability]


def test_unknown_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYMRNR_MATCHING", "fast")
    with pytest.raises(AsymRnRError, match=r"ASYMRNR_MATCHING is 'fast'; set it to 'reference' or 'triton'"):
        match_tokens(torch.zeros(1, 1, 144, 4), PARTITION)


def test_kernel_is_refused_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="the kernel needs triton")
    monkeypatch.setenv("ASYMRNR_MATCHING", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(AsymRnRError, match="needs a CUDA device, not 'cpu'"):
        match_tokens(torch.zeros(1, 1, 144, 4), PARTITION)


def test_without_triton_only_asking_for_the_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "asymrnr.matching_triton", raising=False)
    monkeypatch.delattr("asymrnr.matching_triton", raising=False)
    x = clustered((1, 2, 144, 8), torch.float32)
    assert torch.equal(match_tokens(x, PARTITION)[1], match_chunked(x, PARTITION)[1])
    monkeypatch.setenv("ASYMRNR_MATCHING", "triton")
    with pytest.raises(AsymRnRError, match="needs the package triton"):
        match_tokens(x, PARTITION)


@pytest.mark.gpu
class TestOnDevice:
    """Run with `pytest -m gpu` on a CUDA device."""

    @pytest.fixture(autouse=True)
    def _kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ASYMRNR_MATCHING", "triton")  # an error instead of a silent fallback

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("dim", [64, 80, 128, 1920])
    def test_equals_the_reference(self, metric: str, dtype: torch.dtype, dim: int) -> None:
        partition = make_partition((5, 18, 27), (2, 2, 2), torch.Generator().manual_seed(0))
        joint = clustered((2, partition.tokens + 7, 2, dim), dtype).cuda().transpose(1, 2)
        check_close(joint[:, :, 7:], partition, metric)

    @pytest.mark.parametrize("metric", METRICS)
    def test_ties_go_to_the_first_destination(self, metric: str) -> None:
        check_ties(metric, torch.device("cuda"))

    def test_automatic_choice_is_the_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = clustered((1, 2, 144, 64), torch.bfloat16).cuda()
        want = match_tokens(x, PARTITION)
        monkeypatch.delenv("ASYMRNR_MATCHING")
        monkeypatch.setattr("asymrnr.matching.match_chunked", None)  # calling it would fail
        assert torch.equal(match_tokens(x, PARTITION)[1], want[1])
