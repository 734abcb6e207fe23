"""What every figure shows and how to read it, by its heading."""

from __future__ import annotations

CAPTIONS = {
    "Beside diffusers' own caches": "Each alone on the first held-out prompt. Up and to the right is better; the "
    "star is the tuned schedule, the dotted line the target.",
    "Quality against certified speed": "Every certified schedule with its 95 % intervals: across, the speed-up; up, "
    "the PSNR to the plain videos.",
    "What the certificate rests on": "Above: at every denoising step, plain over tuned seconds; steps that a "
    "schedule leaves in full lie near 1. Below, in the same colours: the speed-up of every pair with its standard "
    "error, and all together with the 95 % bounds. The dotted line is the target; a certificate should lie in the "
    "green band, from there to 5 % above.",
    "Where the schedule reduces": "What every block does at every step, and the rate of what it leaves out. Bright "
    "is more. Dark cells of the first map are refreshes, which later steps live on.",
    "Similarity of every site, standardised": "From 0 to 1 over all sites of a feature: hidden states (H), queries "
    "(Q), keys (K) and values (V). Bright is redundant: there, more can be left out.",
    "Similarity over denoising, by group of blocks": "Minus the mean distance between tokens and those that would "
    "stand in for them: 0 is identical. Bands span the blocks of a group.",
    "KL divergence of the kept tokens, by rate": "What leaving tokens out does to the distribution of features, by "
    "matching (solid) or at random (dashed): from the kept tokens to all (kept||all, the paper's), and back "
    "(all||kept). These are nearest-neighbour estimates of a divergence between continuous densities, right only up "
    "to a bias that grows with the number of dimensions; so they may lie far below zero, where no true divergence "
    "can be. Compare curves, not values.",
    "Sensitivity by feature, blocks and phase": "Relative error of the attention output when every site leaves out "
    "the same share of queries (Q) or of keys and values (V) and copies. High bars are what a schedule should spare.",
    "Matches that stay the same over the next steps": "Share of tokens that are matched with the same token some "
    "steps later. Where it stays high, a match can be used for several steps.",
    "Tails of the feature norms": "The 95th percentile of the tokens' norms over their median. Where it is far "
    "above 1, tokens differ in length, and cosine similarity, which ignores that, misleads.",
    "What the search tried": "Copying schedules that the search made, by their predicted error; the line is the "
    "best so far that is predicted to be fast enough.",
    "Error against speed": "Lower and to the right is better. The line is what the surrogate holds possible, the "
    "stars are the finalists, the dotted line is the target. Speed-ups are those of the latency model as corrected "
    "with all measurements, which the search did not have yet; a table below gives every finalist's, predicted and "
    "measured.",
    "Error against speed, copying alone": "The same for schedules that fill in by copying, as in the paper: tables, "
    "threshold rules and the procedure of Appendix B. Its predicted error is not that of the figure above.",
    "Predicted against measured speed-up": "Every finalist. Hollow: as predicted before it was measured. Filled: by "
    "the latency model as corrected with all measurements, as in error against speed. On the dotted line both are "
    "equal.",
}
