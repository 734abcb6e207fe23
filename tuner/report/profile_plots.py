"""Pictures of a profile, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from tuner.profile.distribution import DIRECTIONS, POLICIES
from tuner.profile.profile import Curves, Profile
from tuner.report.plots import SIZE, axes_grid, heat_maps, legend_above

T = TypeVar("T")

BLOCK_GROUPS = 4
SENSITIVITY_RATE = 0.3  # as in the paper's figure 2


def profile_figures(profile: Profile) -> dict[str, Figure]:
    """Heading to figure, in the order of the report."""
    return {
        "Similarity of every site, standardised": similarity_maps(profile),
        "Similarity over denoising, by group of blocks": similarity_curves(profile),
        "KL divergence of the kept tokens, by rate": divergence_curves(profile),
        "Sensitivity by feature, blocks and phase": sensitivity_bars(profile),
        "Matches that stay the same over the next steps": persistence_curves(profile),
        "Tails of the feature norms": norm_tails(profile),
    }


def similarity_maps(profile: Profile) -> Figure:
    """Standardised similarity S(A, t, b), a map a feature."""
    return heat_maps(_in_order(profile.similarity), "S", 0, 1)


def similarity_curves(profile: Profile) -> Figure:
    """Raw similarity over denoising by group of blocks (paper figure 4); bands span the blocks of a group."""
    tables = _in_order(profile.raw_similarity)
    figure, all_axes = axes_grid(len(tables))
    for axes, (name, table) in zip(all_axes, tables.items(), strict=True):
        for group in _block_groups(len(table)):
            steps = np.arange(table.shape[1])
            label = f"blocks {group[0]}-{group[-1]}"
            (line,) = axes.plot(steps, table[group].mean(0), label=label)
            axes.fill_between(steps, table[group].min(0), table[group].max(0), alpha=0.15, color=line.get_color())
        axes.set_title(name, fontsize="medium")
        axes.set(xlabel="denoising step", ylabel="similarity")
        axes.locator_params(axis="x", integer=True)
    legend_above(figure, all_axes[-1])
    return figure


def divergence_curves(profile: Profile) -> Figure:
    """kNN KL divergences against the rate, mean over sampled sites, for matched and random tokens (equation 2)."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for name, table in profile.kl.items():
        feature, policy, rate, direction = name.split("/")
        found.setdefault((feature, policy, direction), []).append((float(rate), float(np.nanmean(table))))
    features = list(_in_order({feature: None for feature, _, _ in found}))
    figure, all_axes = axes_grid(len(features))
    for axes, feature in zip(all_axes, features, strict=True):
        for policy, style in zip(POLICIES, ("-", "--"), strict=True):
            for direction, colour in zip(DIRECTIONS, ("C0", "C1"), strict=True):
                points = sorted(found[feature, policy, direction])
                label = f"{direction}, {policy}"
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=label)
        axes.set_title(feature, fontsize="medium")
        axes.set(xlabel="reduction rate", ylabel="estimate, nats")
    legend_above(figure, all_axes[-1])
    return figure


def sensitivity_bars(profile: Profile) -> Figure:
    """Relative error of the attention output at one rate, by feature, group of blocks and phase (paper figure 2)."""
    index = int(np.abs(profile.rates - SENSITIVITY_RATE).argmin())
    figure, (features, blocks, phases) = axes_grid(3)
    half = profile.steps // 2
    for shift, (name, curves) in enumerate({"Q": profile.q_error, "V": profile.v_error}.items()):
        error = np.sqrt(_reference(curves)[..., index])
        groups = _block_groups(profile.blocks)
        width = 0.4 * (2 * shift - 1) / 2
        features.bar([shift], [error.mean()], width=0.8, label=name)
        blocks.bar(np.arange(len(groups)) + width, [error[g].mean() for g in groups], width=0.4, label=name)
        phases.bar(np.arange(2) + width, [error[:, :half].mean(), error[:, half:].mean()], width=0.4, label=name)
    features.set_xticks([0, 1], ["Q", "V"])
    blocks.set_xticks(range(len(groups)), [f"{g[0]}-{g[-1]}" for g in groups], fontsize="x-small")
    blocks.set_xlabel("blocks")
    phases.set_xticks([0, 1], ["early", "late"])
    features.set_ylabel(f"relative error at rate {profile.rates[index]:g}")
    legend_above(figure, phases)
    return figure


def persistence_curves(profile: Profile) -> Figure:
    """Share of sources whose destination is the same some steps later (paper figure 5), by feature."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    shares: dict[str, list[tuple[int, float]]] = {}
    for name, table in profile.persistence.items():
        feature, gap = name.split("/")
        shares.setdefault(feature, [(0, 1.0)]).append((int(gap), float(np.nanmean(table))))
    for feature, points in _in_order(shares).items():
        axes.plot(*zip(*sorted(points), strict=True), marker=".", label=feature)
    axes.set(xlabel="steps later", ylabel="share of equal matches", ylim=(0, 1.02))
    legend_above(figure, axes)
    return figure


def norm_tails(profile: Profile) -> Figure:
    """95th percentile of the token norms over their median by block (paper figure 10): long where cosine misleads."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for feature, table in _in_order(profile.norm_tail).items():
        axes.plot(np.nanmean(table, axis=1), marker=".", label=feature)
    axes.set(xlabel="block", ylabel="95th percentile / median of norms")
    legend_above(figure, axes)
    return figure


def _in_order(by_feature: Mapping[str, T]) -> dict[str, T]:
    """Hidden states, queries, keys, values, as far as they are there."""
    return {feature: by_feature[feature] for feature in "HQKV" if feature in by_feature}


def _block_groups(blocks: int) -> list[np.ndarray]:
    return np.array_split(np.arange(blocks), min(BLOCK_GROUPS, blocks))


def _reference(curves: Curves) -> np.ndarray:
    """The curves of the first stride and cache step, (blocks, steps, R)."""
    return next(iter(curves.values()))
