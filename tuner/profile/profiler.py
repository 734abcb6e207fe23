"""Observes one unaccelerated generation and turns it into a profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from asymrnr.matching import match_tokens
from asymrnr.observation import AttentionCall
from asymrnr.partition import Grid, Partition, make_partition, window_seed
from asymrnr.reduction import Match
from tuner.ceilings import MATCHED_TOKENS, SOURCES
from tuner.errors import UsageError
from tuner.latency.model import LatencyModel
from tuner.profile.changes import OutputChanges
from tuner.profile.distribution import divergence_name, divergences, norm_tail
from tuner.profile.error_curves import SampledRows, query_error_curve, sampling_error
from tuner.profile.means import Site
from tuner.profile.observed import Observed
from tuner.profile.pieces import head_pieces, head_stride, squared_norm
from tuner.profile.profile import Profile
from tuner.profile.residual import residual_table
from tuner.profile.reuse import ExtrapolatedOutputs
from tuner.profile.sampled import KeptTokens, SampledSources
from tuner.profile.settings import GAPS, ProfilerSettings
from tuner.profile.similarity import fill_steps, matched_similarity, standardise
from tuner.strides import parse_stride

FEATURES = ("H", "Q", "K", "V")
REDUCED = ("Q", "V")
PERSISTENCE_SHARE = 4  # every fourth source


class Profiler:
    """An observer for `asymrnr.observe`; `finish` gives the profile.

    Destinations are drawn exactly as the runtime draws them for each candidate stride and cache step, and matchings are
    followed over a cache window as the runtime keeps them, so that the error of a reduced query is what the runtime
    causes. Of each, only what these errors are made of is kept, see `tuner.profile.sampled` and `tuner.ceilings`.
    """

    def __init__(self, settings: ProfilerSettings, progress: Callable[[int, int], None] | None = None) -> None:
        """
        Args:
            settings: what to measure.
            progress: told (steps begun, steps in all).
        """
        self.settings = settings
        self.rates = np.unique(np.array([0.0, *settings.rates]))
        self._progress = progress
        self._queries: dict[tuple[Any, ...], tuple[int, SampledSources]] = {}  # by place, stride and cache step
        self._values: dict[tuple[Any, ...], tuple[int, KeptTokens]] = {}
        self._bases: dict[tuple[Any, ...], tuple[int, Partition, torch.Tensor]] = {}
        self.observed = Observed()
        self._changes = OutputChanges(self.rates, settings.memory_gaps, settings.memory_samples)
        self._outputs = ExtrapolatedOutputs(settings.total_steps, settings.memory_gaps)

    @torch.no_grad()
    def __call__(self, call: AttentionCall) -> None:
        """Take in one attention call.

        Raises:
            UsageError: the generation has more steps than announced.
        """
        if call.step >= self.settings.total_steps:
            raise UsageError(f"The generation has more than the {self.settings.total_steps} steps to be profiled.")
        observed = self.observed
        if call.step not in observed.timesteps:
            observed.timesteps[call.step] = call.timestep
            if self._progress is not None:
                self._progress(call.step + 1, self.settings.total_steps)
        observed.blocks = max(observed.blocks, call.block + 1)
        if not observed.facts or _tokens(call.grid) > _tokens(observed.facts["grid"]):
            _, heads, joint, head_dim = call.query.shape
            text_tokens = joint - _tokens(call.grid)
            observed.facts = {"grid": call.grid, "heads": heads, "head_dim": head_dim, "text_tokens": text_tokens}
        fresh = self._match(call)
        if self.settings.rates:
            self._query_errors(call)
            if self._due(call, self.settings.v_every):
                self._value_errors(call)
            if self.settings.memory_gaps:
                self._memory_errors(call)
        self._similarities(call, fresh)
        self._persistence(call, fresh)

    def on_output(self, step: int, output: torch.Tensor) -> None:
        """Take in what a call of the denoiser gave at a step, after its attention calls."""
        if self.settings.memory_gaps:
            self._outputs.add(step, self.observed.timesteps[step], output)

    def looks_back(self, step: int) -> tuple[int, int]:
        """How to go on with a generation of which an earlier profiler saw the steps before `step`, and no more.

        Returns:
            The first step to show to this one, and the first one of which what it observes counts: before that, it only
            fills what it looks back on.
        """
        counts = step
        base = (step - 1) // self.settings.persistence_every * self.settings.persistence_every
        if step and step - base <= max(GAPS):  # it was not followed to its end
            counts = base
        windows = [counts // cache_step * cache_step for cache_step in self.settings.cache_steps]
        return max(0, min(*windows, counts - self.settings.memory_gaps)), counts

    def finish(
        self,
        model: str,
        workload: dict[str, Any],
        prompt: str,
        generation_seed: int,
        latency: LatencyModel | None = None,
        transformer: str | None = None,
    ) -> Profile:
        """The profile of the generation observed.

        Args:
            model, workload, prompt, generation_seed: what was generated, for the record.
            latency: predicts seconds on the machine, kept with the profile.
            transformer: class name of the denoiser, for the record.

        Raises:
            UsageError: the generation ended early.
        """
        steps = self.settings.total_steps
        observed, tables = self.observed, self.observed.tables
        if (seen := len(observed.timesteps)) < steps:
            raise UsageError(f"Only {seen} of {steps} denoising steps were observed; profile a whole generation.")
        diagnostics = {"kl_zero_distances": float(observed.zeros.total())}
        if self.settings.rates:
            diagnostics["recomputed_rows"] = float(np.nanmax(tables("recomputed")[()]))
            diagnostics["v_sampling_error"] = float(np.nanmedian(tables("v_sampling")[()]))
        gaps, stride = range(1, self.settings.memory_gaps + 1), self.settings.strides[0]

        def by_gap(kind: str) -> dict[str, np.ndarray]:
            found = tables(kind)
            return {stride: np.stack([found[gap,] for gap in gaps if (gap,) in found], axis=2)} if found else {}

        raw = {feature: fill_steps(table) for (feature,), table in tables("S").items()}
        return Profile(
            model=model,
            workload=dict(workload),
            prompt=prompt,
            seed=generation_seed,
            schedule_seed=self.settings.seed,
            **observed.facts,
            timesteps=np.array([observed.timesteps[step] for step in range(steps)]),
            raw_similarity=raw,
            similarity={feature: standardise(table) for feature, table in raw.items()},
            kl={name: table for (name,), table in tables("kl").items()},
            norm_tail={feature: table for (feature,), table in tables("tail").items()},
            persistence={f"{feature}/{gap}": table for (feature, gap), table in tables("persistence").items()},
            rates=self.rates,
            q_error=tables("Q"),
            v_error={key: _fill_curves(table) for key, table in tables("V").items()},
            diagnostics=diagnostics,
            latency=latency,
            transformer=transformer,
            memory_error=by_gap("memory"),
            broadcast_error=by_gap("broadcast"),
            extrapolation_error=self._outputs.table() if self._outputs.seen else None,
            residual_error=residual_table(observed, self.settings.memory_gaps),
        )

    def _due(self, call: AttentionCall, every: int) -> bool:
        return call.step % every == 0

    def _partition(self, grid: Grid, stride: str, feature: str, block: int, window: int) -> Partition:
        seed = window_seed(self.settings.seed, feature, block, window)
        return make_partition(grid, parse_stride(stride), torch.Generator().manual_seed(seed))

    def _match(self, call: AttentionCall) -> dict[str, Match]:
        """Match where a candidate's cache window begins; returns the fresh matchings at the reference stride."""
        found: dict[str, Match] = {}
        for feature in REDUCED:
            features, kept = _features(call, feature), self._queries if feature == "Q" else self._values
            for stride in self.settings.strides:
                made: dict[int, Any] = {}  # by window
                for cache_step in self.settings.cache_steps:
                    window, key = call.step // cache_step, (_place(call), stride, cache_step)
                    if key in kept and kept[key][0] == window:
                        continue
                    if window not in made:
                        match = Match.of(features, self._partition(call.grid, stride, feature, call.block, window))
                        made[window] = self._keep(feature, match)
                        if stride == self.settings.strides[0]:
                            found[feature] = match
                    kept[key] = (window, made[window])
        return found

    def _keep(self, feature: str, match: Match) -> SampledSources | KeptTokens | None:
        if not self.settings.rates:
            return None
        if feature == "Q":
            return SampledSources.of(match, self.rates, SOURCES)
        every = head_stride(match.order.shape[0], match.order.shape[1], match.partition.tokens, MATCHED_TOKENS)
        some = replace(match, order=match.order[:, ::every], slot=match.slot[:, ::every])
        return KeptTokens.of(some, self.rates)

    def _query_errors(self, call: AttentionCall) -> None:
        output = call.output[:, :, call.video]
        energy = squared_norm(output)
        for stride in self.settings.strides:
            for cache_step in self.settings.cache_steps:
                _, sampled = self._queries[_place(call), stride, cache_step]
                curve = query_error_curve(output, sampled)
                self.observed.means["Q", stride, cache_step].add((call.block, call.step), curve, energy)

    def _value_errors(self, call: AttentionCall) -> None:
        """Of the heads whose values are followed."""
        site = (call.block, call.step)
        generator = torch.Generator().manual_seed(window_seed(self.settings.seed, "rows", *site))
        picked = torch.randperm(_tokens(call.grid), generator=generator)[: self.settings.v_rows]
        kept = {key[1:]: tokens for key, (_, tokens) in self._values.items() if key[0] == _place(call)}
        batch, heads = call.query.shape[:2]
        every = head_stride(batch, heads, _tokens(call.grid), MATCHED_TOKENS)
        query, key, value, output = (x[:, ::every] for x in (call.query, call.key, call.value, call.output))
        mask = None if call.mask is None else call.mask.expand(batch, heads, *call.mask.shape[2:])[:, ::every]
        errors: dict[tuple[str, int], Any] = dict.fromkeys(kept, 0.0)
        energy, wrong, right = 0.0, 0.0, 0.0
        for piece in head_pieces(query):
            of_piece = None if mask is None else mask[piece]
            rows = SampledRows(query[piece], key[piece], value[piece], call.video, picked, of_piece)
            seen = output[piece][:, :, call.video].index_select(2, picked.to(output.device)).float()
            wrong, right = wrong + float((rows.output - seen).square().sum()), right + float(seen.square().sum())
            energy += rows.energy
            for candidate, tokens in kept.items():
                errors[candidate] = errors[candidate] + rows.value_errors(tokens.part(*piece))
        self.observed.means["recomputed",].add(site, wrong, right)
        for (stride, cache_step), found in errors.items():
            self.observed.means["V", stride, cache_step].add(site, found.sum(1), energy)
            self.observed.means["v_sampling",].add(site, sampling_error(found))

    def _memory_errors(self, call: AttentionCall) -> None:
        output, stride = call.output[:, :, call.video], self.settings.strides[0]
        # A refresh draws its destinations by its own step, see `asymrnr.engine.Engine.match`.
        partition = self._partition(call.grid, stride, "Q", call.block, call.step)
        match = Match.of(_features(call, "Q"), partition)
        energy = squared_norm(output)
        for change in self._changes.add(_place(call), call.step, output, match):
            site = (call.block, call.step)
            self.observed.means["memory", change.gap].add(site, change.memory, energy)
            self.observed.means["broadcast", change.gap].add(site, change.broadcast, energy)

    def _similarities(self, call: AttentionCall, fresh: dict[str, Match]) -> None:
        site, reference = (call.block, call.step), self.settings.strides[0]
        wants_kl = self._due(call, self.settings.kl_every)
        for feature in FEATURES:
            match = fresh.get(feature)
            if match is None:
                if feature in REDUCED or not (wants_kl or self._due(call, self.settings.similarity_every)):
                    continue
                partition = self._partition(call.grid, reference, feature, call.block, call.step)
                match = Match.of(_features(call, feature), partition)
            self.observed.means["S", feature].add(site, matched_similarity(match))
            if wants_kl:
                self._distribution(site, feature, _features(call, feature), match)

    def _distribution(self, site: Site, feature: str, features: torch.Tensor, match: Match) -> None:
        self.observed.means["tail", feature].add(site, norm_tail(features))
        if self.settings.kl_rates:
            generator = torch.Generator().manual_seed(window_seed(self.settings.seed, "kl", *site))
            found, zeros = divergences(
                features,
                match,
                self.settings.kl_rates,
                generator,
                self.settings.kl_neighbour,
                self.settings.kl_samples,
            )
            for (policy, rate, direction), value in found.items():
                self.observed.means["kl", divergence_name(feature, policy, rate, direction)].add(site, value)
            self.observed.zeros[site[1]] += zeros

    def _persistence(self, call: AttentionCall, fresh: dict[str, Match]) -> None:
        for feature in REDUCED:
            key, features = (feature, *_place(call)), _features(call, feature)
            if self._due(call, self.settings.persistence_every) and feature in fresh:
                match = fresh[feature]
                every = max(PERSISTENCE_SHARE, -(-match.slot.numel() // SOURCES))
                some = replace(match.partition, src=match.partition.src[::every].clone())
                self._bases[key] = (call.step, some, match.slot[..., ::every].clone())
            if key not in self._bases:
                continue
            base, some, before = self._bases[key]
            if call.step - base in GAPS:
                unchanged = float((match_tokens(features, some)[1] == before).float().mean())
                self.observed.means["persistence", feature, call.step - base].add((call.block, base), unchanged)


def _tokens(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


def _place(call: AttentionCall) -> tuple[Any, ...]:
    return call.block, call.branch, call.call


def _features(call: AttentionCall, feature: str) -> torch.Tensor:
    """(batch, heads, video tokens, head dim); hidden states count as one head."""
    if feature == "H":
        return call.hidden[:, None]
    joint = {"Q": call.query, "K": call.key, "V": call.value}[feature]
    return joint[:, :, call.video]


def _fill_curves(sampled: np.ndarray) -> np.ndarray:
    """Interpolate (blocks, steps, R) over steps not sampled; rates out of reach stay infinite."""
    columns = []
    for rate in range(sampled.shape[2]):
        column = sampled[:, :, rate]
        out_of_reach = np.isinf(column).any(axis=1, keepdims=True)
        columns.append(np.where(out_of_reach, np.inf, fill_steps(np.where(np.isinf(column), 0.0, column))))
    return np.stack(columns, axis=-1)
