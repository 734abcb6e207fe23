"""Which number known before any generation predicts the quality loss of a schedule?

    python benchmarks/proxies.py --profile runs/tiny-cogvideox-x1.30/profile.safetensors

Generates held-out prompts with random schedules of several kinds and correlates every proxy's ranking with the mean
squared error to the unaccelerated video, geometric mean over prompts. Writes `docs/proxies[-MODEL].md` with a plot, raw
numbers to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from embedded import titled
from matplotlib.figure import Figure
from rich.progress import track
from scipy.stats import spearmanr

from asymrnr.schedule import Schedule
from tuner.models import REGISTRY, load_pipeline
from tuner.profile.distribution import DIRECTIONS, divergence_name
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse
from tuner.report.plots import save_figures
from tuner.run.identity import environment
from tuner.run.runner import Runner
from tuner.search.error import ErrorModel
from tuner.search.space import SearchSpace, load_space_of
from tuner.search.threshold import constant_in_windows
from tuner.strides import parse_stride

ROOT = Path(__file__).parents[1]
SEED = 5_000_000
RESAMPLES = 2000
KL_RATE = 0.5
FLOPS = "attention left out (FLOPs alone)"
IN_USE = "error sum, p = 2, steps weighed by length, pooled"
SMALLEST = 1e-12
KINDS = ("sites", "blocks", "phases", "threshold", "uniform")
Proxy = Callable[[Schedule], float]


def random_schedule(profile: Profile, kind: str, rng: np.random.Generator) -> Schedule:
    """A schedule whose rates vary by site, by block, by phase of denoising, by similarity, or not at all."""
    stride, cache_step = list(profile.q_error)[rng.integers(len(profile.q_error))]
    reachable = np.isfinite(profile.q_error[stride, cache_step]).all((0, 1))
    rates = profile.rates[reachable]
    shape = (profile.blocks, profile.steps)
    settings: dict[str, Any] = {
        "stride": parse_stride(stride),
        "cache_step": cache_step,
        "timesteps": tuple(profile.timesteps.tolist()),
        "seed": profile.schedule_seed,
    }
    if kind == "threshold":
        rules = {f: {rng.choice([0.2, 0.4, 0.6, 0.8]): rng.choice(rates[1:])} for f in ("Q", "V")}
        tables = {f: constant_in_windows(profile.similarity[f], cache_step) for f in rules}
        return Schedule.from_thresholds(rules, tables, **settings)
    share = rng.uniform(0.2, 1.0)  # how much of the model is touched at all
    chosen = {}
    for feature in ("Q", "V"):
        size = {"sites": shape, "blocks": (shape[0], 1), "phases": (1, shape[1]), "uniform": (1, 1)}[kind]
        table = rng.choice(rates, size) * (rng.random(size) < share)
        chosen[feature] = constant_in_windows(np.broadcast_to(table, shape), cache_step)
    return Schedule(rates=chosen, form="table", **settings)


def proxies(profile: Profile, noise: np.ndarray, space: SearchSpace) -> dict[str, Proxy]:
    """Name to what it says of a schedule; more means a worse video.

    Args:
        profile: of the model.
        noise: (steps,) standard deviation of the noise in the latents of every step.
        space: says which weights and pooling the search uses.
    """
    found: dict[str, Proxy] = {}
    for p in (1.0, 2.0, 4.0):
        for name, weights in {"": None, ", noise-weighted": noise, ", signal-weighted": 1.01 - noise}.items():
            found[f"error sum, p = {p:g}{name}"] = ErrorModel(profile, weights, p).predict
    weights = space.step_weights(profile.levels)
    found["error sum, p = 2, steps weighed by length"] = ErrorModel(profile, weights).predict
    found[IN_USE] = ErrorModel(profile, weights, trust=space.trusts[0]).predict

    def rate_weighted(table_of: Callable[[str], np.ndarray]) -> Proxy:
        return lambda s: float(sum((s.rates[f] * table_of(f)).sum() for f in s.rates))

    for direction in DIRECTIONS:
        tables = {f: _filled(profile.kl[divergence_name(f, "matched", KL_RATE, direction)]) for f in ("Q", "V")}
        found[f"KL({direction}) of the reduced sites, times rate"] = rate_weighted(tables.__getitem__)
    found["dissimilarity 1 - S of the reduced sites, times rate"] = rate_weighted(lambda f: 1 - profile.similarity[f])
    found[FLOPS] = lambda s: 1 - s.attention_cost()
    return found


def _filled(table: np.ndarray) -> np.ndarray:
    """(blocks, steps) with steps that were not sampled taken from the nearest one that was."""
    sampled = np.flatnonzero(~np.isnan(table).all(0))
    nearest = sampled[np.abs(np.arange(table.shape[1])[:, None] - sampled).argmin(1)]
    return table[:, nearest]


def correlation(values: np.ndarray, losses: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation with its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    samples = [spearmanr(values[p], losses[p]).statistic for p in picks]
    return (float(spearmanr(values, losses).statistic), *np.nanquantile(samples, [0.025, 0.975]).tolist())


def partial_correlation(values: np.ndarray, losses: np.ndarray, held: np.ndarray) -> float | None:
    """Spearman's correlation with what a third quantity explains taken out of both; None for that quantity itself."""
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((values, losses), (values, held), (losses, held)))
    if xz**2 > 1 - 1e-9:
        return None
    return float((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def draw(values: dict[str, np.ndarray], losses: np.ndarray, kinds: list[str], best: str) -> Figure:
    """Measured loss against the best proxy and against FLOPs alone."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for i, name in enumerate((best, FLOPS), start=1):
        axes = figure.add_subplot(1, 2, i)
        for kind in KINDS:
            mask = np.array([k == kind for k in kinds])
            axes.scatter(values[name][mask], losses[mask], s=14, label=kind)
        axes.set(xlabel=name, ylabel="mean squared error of the video", yscale="log")
        axes.set_xscale("log" if name == best else "linear")
    axes.legend(fontsize="x-small")
    return figure


def random_schedules(profile: Profile, count: int) -> tuple[list[str], list[Schedule]]:
    """The kinds, and one schedule of each; always the same ones."""
    rng = np.random.default_rng(0)
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    return kinds, [random_schedule(profile, kind, rng) for kind in kinds]


def noise_of(runner: Runner, profile: Profile) -> np.ndarray:
    """(steps,) standard deviation of the noise in the latents of every step."""
    scheduler = runner.pipe.scheduler
    if scheduler.config.get("use_flow_sigmas") or not hasattr(scheduler, "alphas_cumprod"):
        return profile.timesteps / scheduler.config.num_train_timesteps
    return np.sqrt(1 - scheduler.alphas_cumprod[profile.timesteps.astype(int)].numpy())


def predictions(runner: Runner, profile: Profile, schedules: list[Schedule]) -> dict[str, list[float]]:
    """What every proxy says of the schedules."""
    tried = proxies(profile, noise_of(runner, profile), load_space_of(runner.entry))
    return {name: [proxy(s) for s in schedules] for name, proxy in tried.items()}


def runner_of(profile: Profile) -> Runner:
    """The profile's model, in as many steps."""
    return Runner(load_pipeline(profile.model), REGISTRY[profile.model].with_workload(steps=profile.steps))


def predict_again(content: dict[str, Any], profile_path: Path) -> dict[str, Any]:
    """The errors measured before with what every proxy says of their schedules now."""
    profile = Profile.load(profile_path)
    _, schedules = random_schedules(profile, len(content["kinds"]))
    found = predictions(runner_of(profile), profile, schedules)
    return content | {"proxies": found, "profile": str(profile_path)}


def measure(profile_path: Path, count: int, prompt_count: int) -> dict[str, Any]:
    """Generate with random schedules; the errors measured and what every proxy says, for the results file."""
    profile = Profile.load(profile_path)
    runner = runner_of(profile)
    prompts = runner.entry.held_out_prompts(10 + prompt_count)[10:]
    plain = [runner.generate(prompt, SEED).video for prompt in prompts]
    kinds, schedules = random_schedules(profile, count)
    errors = [
        [mse(runner.generate(prompt, SEED, s).video, video) for prompt, video in zip(prompts, plain, strict=True)]
        for s in track(schedules, "generating")
    ]
    return {
        "environment": environment(),
        "model": profile.model,
        "profile": str(profile_path),
        "kinds": kinds,
        "errors": errors,
        "proxies": predictions(runner, profile, schedules),
    }


def losses_of(content: dict[str, Any]) -> np.ndarray:
    """(schedules,) geometric means of the errors measured; a schedule that reduces nothing changes nothing."""
    return np.exp(np.log(np.maximum(content["errors"], SMALLEST)).mean(1))


def results_of(model: str) -> Path:
    """Where a model's raw numbers are kept."""
    return ROOT / "benchmarks" / "results" / f"proxies-{model}.json"


def write(content: dict[str, Any], root: Path) -> None:
    """The document and its picture."""
    losses = losses_of(content)
    values = {name: np.array(value) for name, value in content["proxies"].items()}
    rows = sorted(((name, *correlation(values[name], losses)) for name in values), key=lambda row: -row[1])
    machine, best, model = content["environment"], rows[0][0], content["model"]
    title = titled("proxies", model)
    lines = [
        "# Which proxy predicts quality?",
        "",
        f"Measured by `python benchmarks/proxies.py --profile {content['profile']}`: {len(losses)} random schedules",
        f"of {model} (by site, block, phase, threshold; uniform), {len(content['errors'][0])} real generations each,",
        "rank correlation with the mean squared error to the unaccelerated video; intervals bootstrap the schedules;",
        "the last column takes out what the amount of attention explains",
        f"({machine['cpu']}, torch {machine['torch']}).",
        "",
        "| proxy | Spearman | 95 % | at equal FLOPs |",
        "|---|---|---|---|",
    ]
    for name, value, low, high in rows:
        partial = partial_correlation(values[name], losses, values[FLOPS])
        cells = [name.replace("|", "\\|"), f"{value:.3f}", f"{low:.3f} to {high:.3f}"]
        lines.append(f"| {' | '.join([*cells, '-' if partial is None else f'{partial:.3f}'])} |")
    chosen = next(row for row in rows if row[0] == IN_USE)
    lines += [
        "",
        f'The search uses "{IN_USE}": {chosen[1]:.3f},',
        f"`rank_correlation` in `search_spaces/{REGISTRY[model].search_space}`.",
        "The best proxies lie within each other's intervals on random schedules, but not once a search has used them:",
        "random schedules do not look for what a proxy gets wrong, a search does. docs/baselines.md has tables of",
        "least error as measured beside tables of least pooled error and uniform rates.",
        "",
        f"![loss against the best proxy and against FLOPs alone]({title}.png)",
    ]
    print("\n".join(lines))
    (root / "docs" / f"{title}.md").write_text("\n".join(lines) + "\n")
    save_figures({title: draw(values, losses, content["kinds"], best)}, root / "docs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--profile", type=Path, help="profile of a tuning run")
    source.add_argument("--write-only", metavar="MODEL", help="only write the document of a model again")
    parser.add_argument(
        "--again", action="store_true", help="with --profile: predict anew for the errors measured before"
    )
    parser.add_argument("--schedules", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=2)
    arguments = parser.parse_args()
    model = arguments.write_only or Profile.load(arguments.profile).model
    results = results_of(model)
    if arguments.profile is None or arguments.again:
        content = json.loads(results.read_text())
    else:
        content = measure(arguments.profile, arguments.schedules, arguments.prompts)
    if arguments.again:
        content = predict_again(content, arguments.profile)
    results.write_text(json.dumps(content, indent=1) + "\n")
    write(content, ROOT)


if __name__ == "__main__":
    main()
