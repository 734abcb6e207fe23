"""Writes docs/full-size.md of what `rehearsal.py` measured, beside forecasts for cards that are not here.

python benchmarks/rehearsal_report.py    # the document again, from benchmarks/results/rehearsal.json
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from roofline import PEAKS, TERA, estimate
from tables import table

from tuner.ceilings import PROFILING_BYTES, TIMING_BYTES
from tuner.context import BUDGET
from tuner.forecast import CARDS, HOUR, WAYS, budget_for, generation_seconds, generations, needs
from tuner.models import REGISTRY
from tuner.parts import parts
from tuner.search.space import load_space_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "full-size.md"
GIB, MIB = 2**30, 2**20
PLANNED = ("hunyuanvideo", "mochi", "cogvideox-5b", "wan-14b-i2v")
PLANNED_ON = ("h100", "rtx4090")
TARGET = 1.2
SOURCES = 64  # of a program, see `asymrnr.matching_triton.tiles_for`
SHAPES = {  # grid, text, heads of all items, head dim, stride
    "CogVideoX-2B": ((13, 30, 45), 226, 60, 64, (2, 2, 2)),
    "CogVideoX-5B": ((13, 30, 45), 226, 96, 64, (2, 2, 2)),
    "Mochi": ((15, 30, 53), 256, 24, 128, (6, 2, 2)),
    "FastVideo-Hunyuan": ((17, 45, 80), 256, 24, 128, (6, 2, 2)),
    "HunyuanVideo, 544 lines": ((33, 34, 60), 256, 24, 128, (6, 2, 2)),
    "HunyuanVideo, 720 lines": ((33, 45, 80), 256, 24, 128, (6, 2, 2)),
    "Wan 14B, 480 lines": ((21, 30, 52), 0, 40, 128, (6, 2, 2)),
}
BEFORE = {  # GiB that profiling took before it kept samples alone, measured alike on a few heads and carried to all
    "HunyuanVideo, 720 lines": 24.0,
    "CogVideoX-5B": 10.4,
    "Mochi": 7.5,
    "Wan 14B, 720 lines": 36.7,
}
HEAD = """# Full size, rehearsed

No full-size model was run with its real weights, and there was no GPU for what follows. This page says what could be
found out without: blocks of the real models at their full numbers of tokens on a CPU, with random weights, and
forecasts from shapes. What is called an estimate is one; what was measured on a GPU is in
[Performance](performance.md).

```bash
python benchmarks/rehearsal.py          # measures, and writes this page
asymrnr-tune plan --model hunyuanvideo --device h100 --target-speedup 1.2
```
"""


def paragraph(*text: str) -> str:
    """Lines of at most 120 characters."""
    return "\n".join(textwrap.wrap(" ".join(text), 120, break_long_words=False, break_on_hyphens=False))


def rehearsed(content: dict[str, Any]) -> list[str]:
    """What was run, and whether it was right."""
    speeds, rows = content["throughput"], content["rows"]
    whole, cpu = sum(row["seconds"] for row in rows) / 60, content["environment"]["cpu"]
    attention, linear = 1e3 * speeds["attention"], 1e3 * speeds["linear"]
    lines = [
        "## Blocks at full numbers of tokens",
        "",
        paragraph(
            f"On one thread of a CPU ({cpu}) that computes {attention:.0f} GFLOP/s of attention and",
            f"{linear:.0f} GFLOP/s of linear layers; all of it took {whole:.0f} minutes of its time. One block",
            "of each kind, one head of the true size (the width is that of one head, too), bfloat16. Two",
            "steps were profiled and one reduced (queries by 70 %, values by 30 %); sampled rows of its",
            "attention are held against numpy, which matches by itself. Of sequences of more than 20,000",
            "tokens attention was computed for 4,096 queries, whose outputs stand for those after them.",
            "*Restored* means equal bit for bit after removal.",
        ),
        "",
    ]
    body = [
        [
            row["name"],
            f"{row['tokens'] + row['text']:,}",
            str(row["built"]),
            f"{row['oracle_error']:.4f} ({row['oracle_rows']} rows)",
            "yes" if row["restored"] else "no",
            f"{row['plain_seconds']:.1f} s / {row['plain_forecast']:.1f} s",
            f"{row['reduced_seconds']:.1f} s / {row['reduced_forecast']:.1f} s",
            f"{row['profile_seconds']:.0f} s",
        ]
        for row in rows
    ]
    head = ["", "tokens", "blocks", "error of sampled rows", "restored"]
    head += ["plain step, measured / forecast", "reduced step, measured / forecast", "two profiled steps"]
    lines += table(head, body)
    return [
        *lines,
        "",
        paragraph(
            "Forecasts count the operations of attention, linear layers and matching at the speeds above, and",
            "nothing else: norms, positions, gathering and sorting are what the measured steps take beyond.",
            "Errors are those of bfloat16.",
        ),
    ]


def memory(content: dict[str, Any]) -> list[str]:
    """What was allocated, against the ceilings."""
    body = [
        [
            row["name"],
            f"{row['rehearsed']} of {row['heads']}",
            f"{row['profile_kept'] / MIB:.1f} / {row['profile_kept_forecast'] / MIB:.1f} MiB",
            f"{row['cache_bytes'] / MIB:.2f} / {row['cache_forecast'] / MIB:.2f} MiB",
            f"{row['full_passing'] / GIB:.2f} GiB",
            f"{row['full_profile'] / GIB:.2f} GiB",
            f"{row['timing_bytes'] / GIB:.2f} GiB",
        ]
        for row in content["rows"]
    ]
    head = ["", "heads rehearsed", "profiling keeps, measured / forecast of blocks rehearsed"]
    head += ["a reduced step keeps, measured / forecast", "one call at all heads, measured"]
    head += ["profiling at all heads and blocks", "micro-benchmark, measured"]
    before = ", ".join(f"{value:.1f} GiB for {name}" for name, value in BEFORE.items())
    return [
        "## Memory",
        "",
        paragraph(
            f"Profiling may add {PROFILING_BYTES / GIB:.0f} GiB to what a model needs by itself, and the",
            f"micro-benchmarks take {TIMING_BYTES / GIB:.0f} GiB (`tuner/ceilings.py`; tests hold allocations",
            "against both). Allocations are counted by PyTorch's profiler, temporaries included. *At all",
            "heads and blocks* is the most that one call of all heads took (measured, with drawn matchings:",
            "its tensors are one number) and, from shapes, what is kept of all blocks over their windows; in",
            "two steps not all of that comes together yet. The micro-benchmark is measured at all heads,",
            "every piece run once.",
        ),
        "",
        *table(head, body),
        "",
        paragraph(
            f"Before profiling kept samples in place of matchings, it took {before}: measured on 2 to 4 heads",
            "of one block over seven steps, and carried to all of them.",
        ),
    ]


def forecasts() -> list[str]:
    """Forecasts."""
    body = []
    for name in PLANNED:
        entry = REGISTRY[name]
        need = needs(entry, load_space_of(entry))
        planned = parts(entry.workload.steps, TARGET, (), compare=False)
        for card_name in PLANNED_ON:
            card = CARDS[card_name]
            seconds, origin = generation_seconds(name, card)
            budget = budget_for(seconds, sum(part.least for part in planned), BUDGET)
            least, most = generations(planned, budget)
            peaks = {way: max(need.peaks(load, card.memory / 4).values()) for way, load in WAYS.items()}
            fitting = [(way, peak) for way, peak in peaks.items() if peak <= card.memory]
            fits = "no"
            if fitting:
                way, peak = fitting[0]
                fits = f"{peak:.0f} GB" + (f" with `{way}`" if way.startswith("--") else "")
            body.append(
                [
                    name,
                    card.title,
                    f"{seconds / 60:.1f} min{', the paper' if origin.startswith('measured') else ''}",
                    f"{least:.0f} to {most:.0f}",
                    f"{least * seconds / HOUR:.1f} h to {most * seconds / HOUR:.1f} h",
                    f"{need.weights:.0f} GB",
                    f"{need.one_pass:.1f} GB",
                    f"{need.profile:.1f} GB",
                    fits,
                ]
            )
    head = ["", "card", "a generation", f"generations for {TARGET:g}x", "the run", "weights", "a pass beside them"]
    return [
        "## Forecasts",
        "",
        paragraph(
            "Estimates from shapes by the code of `asymrnr-tune plan`: nothing of them was measured but the",
            "generations that say so, which the paper took. Sizes are the registry's. Where a generation",
            "takes 20 minutes or more, a run may take 12, or as many as it needs where all goes well, if",
            "`--budget` does not say otherwise. Times are those without offloading; `--offload group` moves all",
            "weights of the denoiser to the card in every step.",
        ),
        "",
        *table([*head, "profiling adds", "fits"], body),
    ]


def roofline() -> list[str]:
    """Matching beside attention."""
    measured = {
        row["case"]: row
        for row in json.loads((RESULTS / "full_size.json").read_text())["rows"]
        if row["measure"] == "matching Q and V / attention"
    }
    known = {"CogVideoX-2B": "cogvideox-2b", "Mochi": "mochi", "HunyuanVideo, 544 lines": "hunyuanvideo"}
    body = []
    for name, (grid, text, heads, dim, stride) in SHAPES.items():
        of = [estimate(grid, text, heads, dim, stride, peak, SOURCES) for peak in PEAKS]
        row = measured.get(known.get(name, ""))
        # the benchmark gives shares of a window's steps
        steps = 0 if row is None else int(row["text"].rsplit("every ", 1)[1].split()[0])
        body.append(
            [
                name,
                f"{of[0].matching_operations / TERA:.2f}",
                f"{of[0].attention_operations / TERA:.1f}",
                f"{of[0].matching_bytes / 1e9:.2f} GB",
                f"{of[0].cache_bytes / 1e9:.1f} GB",
                *(f"{each.matching / each.attention:.1%}" for each in of),
                "-" if row is None else f"{row['value'] * steps / 2:.0%}",
            ]
        )
    head = ["", "matching, TFLOP", "attention, TFLOP", "from memory", "from the cache"]
    head += [f"{peak.title}, estimate" for peak in PEAKS]
    return [
        "## Matching beside attention, by the roofline",
        "",
        paragraph(
            "An estimate: one feature of one attention call matched once, against that call, both at a card's",
            "peaks (989 and 165 TFLOP/s in bfloat16, 3.35 and 1.01 TB/s of memory, about 5.5 and 5.0 TB/s of",
            f"second-level cache). A program of the kernel holds {SOURCES} sources and reads all destinations,",
            "from the cache: that, not the products, bounds it. A window of several steps shares what is",
            "matched once. On the H100 it takes more than that: the last column is what [the",
            "benchmark](performance.md) measured of a feature, sorting included.",
        ),
        "",
        *table([*head, "H100, measured"], body),
    ]


def write(content: dict[str, Any], path: Path = DOCUMENT) -> None:
    """Write the page."""
    sections = [rehearsed(content), memory(content), forecasts(), roofline()]
    text = "\n".join([HEAD, *("\n".join([*section, ""]) for section in sections)])
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(json.loads((RESULTS / "rehearsal.json").read_text()))
