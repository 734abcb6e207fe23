"""How fast a device computes attention and linear layers: what forecasts for it are made from.

python -m tuner.throughput card.json --device cuda
asymrnr-tune plan --model mochi --measured card.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from tuner.errors import UsageError

TERA, GB = 1e12, 1e9
TOKENS, HEADS, HEAD_DIM, WIDTH = 4096, 4, 128, 1024
REPEATS = 5


@dataclass(frozen=True)
class Throughput:
    """Of one device.

    Attributes:
        title: its name.
        memory: GB.
        attention: 10^12 operations a second of attention, heads of 128.
        linear: the same of linear layers.
    """

    title: str
    memory: float
    attention: float
    linear: float

    @classmethod
    def load(cls, path: Path) -> Throughput:
        """Read back what `measure` gave.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        try:
            values = json.loads(path.read_text())
            found = cls(str(values["title"]), *(float(values[name]) for name in ("memory", "attention", "linear")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} holds no measured throughput ({type(error).__name__}); write one with "
                f"`python -m tuner.throughput {path}`."
            ) from None
        if not min(found.memory, found.attention, found.linear) > 0:
            raise UsageError(f"The throughputs in {path} are not positive; measure them again.")
        return found

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def seconds(self, attention: float, linear: float) -> float:
        """What so many operations take."""
        return (attention / self.attention + linear / self.linear) / TERA


@torch.inference_mode()
def measure(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, clock: Callable[[], float] = time.perf_counter
) -> Throughput:
    """Time one attention call and one linear layer, the least of a few each.

    Args:
        device: to measure.
        dtype: of the numbers.
        clock: seconds; `time.process_time` counts what this process used of a busy machine, on one thread.
    """
    size = 1 if device.type == "cpu" else 4
    query = torch.randn(1, HEADS, size * TOKENS, HEAD_DIM, device=device, dtype=dtype)
    rows = torch.randn(size * TOKENS, size * WIDTH, device=device, dtype=dtype)
    weight = torch.randn(size * WIDTH, size * WIDTH, device=device, dtype=dtype)

    def least(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(REPEATS):
            start = clock()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(clock() - start)
        return min(seconds)

    attention = 4 * HEADS * (size * TOKENS) ** 2 * HEAD_DIM
    linear = 2 * size * TOKENS * (size * WIDTH) ** 2
    return Throughput(
        *_about(device),
        attention / least(lambda: F.scaled_dot_product_attention(query, query, query)) / TERA,
        linear / least(lambda: F.linear(rows, weight)) / TERA,
    )


def _about(device: torch.device) -> tuple[str, float]:
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return found.name, found.total_memory / GB
    import psutil

    return "this CPU, one process", psutil.virtual_memory().total / GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    found = measure(torch.device(arguments.device))
    found.save(arguments.output)
    print(f"{found.title}: {found.attention:.3g} TFLOP/s of attention, {found.linear:.3g} of linear layers")


if __name__ == "__main__":
    main()
