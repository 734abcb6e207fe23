"""What differs between models, and which of the paper's claims hold on each, from the profiles of tuning runs.

    python benchmarks/traits.py runs/a/profile.safetensors runs/b/profile.safetensors

Generates nothing. Writes `docs/traits.md`, a column for every profile.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from alternatives_report import paragraph
from scipy.stats import spearmanr

from tuner.errors import UsageError
from tuner.profile.distribution import divergence_name
from tuner.profile.profile import Profile

RATE = 0.5  # of the queries or pairs dropped, where one rate has to stand for all
DOCUMENT = Path(__file__).parents[1] / "docs" / "traits.md"
PHASES = ("first", "middle", "last")


def at_rate(profile: Profile, table: np.ndarray) -> np.ndarray:
    """A table whose last axis is the profile's rates, at the one nearest to `RATE`."""
    return table[..., int(np.argmin(np.abs(profile.rates - RATE)))]


def errors(profile: Profile, feature: str, cache_step: int | None = None) -> np.ndarray:
    """(blocks, steps) errors at `RATE` and the reference stride; with the shortest cache window by default."""
    curves = profile.q_error if feature == "Q" else profile.v_error
    reference = next(iter(curves))[0]
    steps = [step for stride, step in curves if stride == reference]
    return at_rate(profile, curves[reference, min(steps) if cache_step is None else cache_step])


def percent(values: np.ndarray) -> str:
    """The median of squared relative errors, as a share of the output's norm."""
    return f"{np.sqrt(np.nanmedian(values)):.1%}"


def rank(one: np.ndarray, other: np.ndarray) -> str:
    """Spearman's correlation over the sites where both are known; none where one of them does not vary."""
    known = np.isfinite(one) & np.isfinite(other)
    if not known.any() or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return "-"
    return f"{spearmanr(one[known], other[known]).statistic:.2f}"


def by_phase(profile: Profile) -> str:
    parts = np.array_split(np.nanmean(errors(profile, "Q") + errors(profile, "V"), axis=0), len(PHASES))
    means = np.array([part.mean() for part in parts])
    return ", ".join(f"{name} {share:.0%}" for name, share in zip(PHASES, means / means.sum(), strict=True))


def worst_block(profile: Profile) -> str:
    sums = np.nansum(errors(profile, "Q") + errors(profile, "V"), axis=1)
    worst = int(np.argmax(sums))
    return f"{worst} of {profile.blocks} ({sums[worst] / sums.sum():.0%} of all)"


def similarity_tells(feature: str) -> Callable[[Profile], str]:
    """How far sites rank alike by dissimilarity and by the error of reducing them."""
    return lambda profile: rank(1 - profile.similarity[feature], errors(profile, feature))


def divergence_tells(feature: str) -> Callable[[Profile], str]:
    name = divergence_name(feature, "matched", RATE, "kept||all")
    return lambda profile: rank(profile.kl[name], errors(profile, feature))


def matched_to_random(feature: str) -> Callable[[Profile], str]:
    def found(profile: Profile) -> str:
        matched, random = (
            np.nanmedian(profile.kl[divergence_name(feature, policy, RATE, "all||kept")])
            for policy in ("matched", "random")
        )
        return f"{matched:.2f} / {random:.2f}"

    return found


def cached(profile: Profile) -> str:
    reference = next(iter(profile.q_error))[0]
    steps = sorted(step for stride, step in profile.q_error if stride == reference)
    return ", ".join(f"{step} steps {percent(errors(profile, 'Q', step))}" for step in steps)


def agreement_of(feature: str) -> Callable[[Profile], str]:
    def found(profile: Profile) -> str:
        known = profile.agreement.get(feature)
        return "-" if known is None else f"{known.spearman:.2f} ({known.low:.2f} to {known.high:.2f})"

    return found


def restored(profile: Profile, gap: int) -> str:
    """Errors of restoring with memory at the rate nearest to `RATE`, and of broadcasting."""
    memory, broadcast = next(iter(profile.memory_error.values())), next(iter(profile.broadcast_error.values()))
    return f"{percent(at_rate(profile, memory[:, :, gap - 1]))} / {percent(broadcast[:, :, gap - 1])}"


ROWS: dict[str, Callable[[Profile], str]] = {
    "blocks, steps": lambda p: f"{p.blocks}, {p.steps}",
    "video and text tokens": lambda p: f"{np.prod(p.grid):,}, {p.text_tokens:,}",
    "error of half the queries": lambda p: percent(errors(p, "Q")),
    "error of half the pairs": lambda p: percent(errors(p, "V")),
    "queries are the more sensitive feature (paper: they are)": lambda p: (
        "yes" if np.nanmedian(errors(p, "Q")) > np.nanmedian(errors(p, "V")) else "no"
    ),
    "share of the errors by third of the steps": by_phase,
    "most sensitive block": worst_block,
    "dissimilarity and error, Spearman, Q": similarity_tells("Q"),
    "dissimilarity and error, Spearman, V": similarity_tells("V"),
    "KL(kept to all) and error, Spearman, Q": divergence_tells("Q"),
    "KL(all to kept), matched / random tokens, Q": matched_to_random("Q"),
    "KL(all to kept), matched / random tokens, V": matched_to_random("V"),
    "error of half the queries, matching shared by": cached,
    "memory / broadcasting, a step after": lambda p: restored(p, 1),
    "memory / broadcasting, three steps after": lambda p: restored(p, 3),
    "similarities of two prompts, Spearman, Q": agreement_of("Q"),
    "similarities of two prompts, Spearman, V": agreement_of("V"),
}


def document(profiles: list[Profile], command: str) -> str:
    """The whole document, in Markdown."""
    intro = (
        f"Written by `{command}` from the profiles that tuning runs left. Errors are those of one attention layer's "
        f"output, relative to its norm, with every second token dropped (rate {RATE:g}) at the reference stride; "
        "medians over all blocks and steps. Divergences are nearest-neighbour estimates of the Kullback-Leibler "
        "divergence in nats, which may be negative."
    )
    names = [f"{profile.model}, {profile.steps} steps" for profile in profiles]
    lines = ["# What differs between models", "", paragraph(intro), "", f"| | {' | '.join(names)} |"]
    lines.append("|" + "---|" * (len(profiles) + 1))
    lines += [f"| {title} | {' | '.join(row(profile) for profile in profiles)} |" for title, row in ROWS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", type=Path, nargs="+", help="profile.safetensors of tuning runs")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    arguments = parser.parse_args()
    try:
        found = [Profile.load(path) for path in arguments.profiles]
    except UsageError as error:
        raise SystemExit(str(error)) from None
    arguments.document.write_text(document(found, shlex.join(["python", *sys.argv])))
    print(f"Written: {arguments.document}")


if __name__ == "__main__":
    main()
