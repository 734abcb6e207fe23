"""Most memory that measuring may take beside the model's own, and what keeps it there; all in one place.

The ceilings hold for every model and size of `tuner.models`, HunyuanVideo at 720 lines (119,000 tokens, 60 blocks) and
Wan 14B (two passes a step) being the largest. Tests hold what is allocated against them, and `benchmarks/rehearsal.py`
at full numbers of tokens. Where everything is no more than a limit, everything is measured.
"""

from __future__ import annotations

PROFILING_BYTES = (
    2 << 30
)  # beyond the model's own peak: what remains of 80 GB beside HunyuanVideo and its text encoders
TIMING_BYTES = 1 << 30  # of the micro-benchmarks, while nothing is generated; masks of pairs, N x N, come on top
REPORT_BYTES = 25_000_000  # of one file, which mail and browsers still take

PIECE_BYTES = 64 << 20  # of features that are converted to float32 at a time
SOURCES = 1 << 16  # of an attention call, that errors of queries are measured on
MATCHED_TOKENS = 1 << 21  # of an attention call, all heads together, of which values are followed: a byte each
FOLLOWED = 1 << 11  # sources of an attention call whose outputs are kept over some steps
OUTPUT_NUMBERS = 1 << 20  # of a denoiser's output, that are kept over some steps
