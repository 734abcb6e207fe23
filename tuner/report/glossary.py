"""The report's terms: what each means, and text in which they link to their meaning."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

GLOSSARY = {
    "speed-up": "Time without the schedule over time with it. Denoising speed-up counts the denoising steps only, "
    "end-to-end speed-up the whole call with text encoder and decoder.",
    "plain": "Generated without a schedule, and otherwise the same: prompt, seed, number of steps.",
    "held-out": "Prompts and seeds that nothing was tuned on. A certificate rests on these alone.",
    "pair": "One prompt and seed generated twice at the same time, plain and tuned, so that whatever else the machine "
    "does hits both alike.",
    "lock-step": "How the two generations of a pair run: they take turns inside one process.",
    "disturbed": "Of steps: off their neighbours in pace or ratio, by a fixed rule; what they may weigh is limited.",
    "gate": "A check with a limit. One FAIL means no certificate; WARN is worth knowing.",
    "another seed": "The measure of how much a video may change: the mean squared error between plain videos of one "
    "prompt and different seeds.",
    "PSNR": "Peak signal-to-noise ratio to the plain video in dB; higher is closer, and 100 stands for identical.",
    "SSIM": "Structural similarity to the plain video; 1 is identical.",
    "site": "One attention call: a block of the model at a denoising step.",
    "rate": "The share of the queries (Q), or of the key and value pairs (V), that a site leaves out of its attention.",
    "similarity": "How close tokens are to the tokens that would stand in for them; where it is high, more can be left "
    "out.",
    "copying": "The paper's way to fill in what was left out: the output of the most similar kept token.",
    "memory": "Another way to fill in what was left out: the copied output, and what copying got wrong at the block's "
    "last refresh.",
    "broadcasting": "Using a block's attention output of its last refresh again, without computing any.",
    "refresh": "A site that is computed in full and kept, for later sites that restore with memory or broadcast.",
    "stride": "Frames x height x width of the cells of tokens; one token a cell is never left out, and the others are "
    "matched with these.",
    "attention": "In the description of a schedule: the share of the attention matrix that is still computed, averaged "
    "over all sites. attention 0.65 leaves out 35 %.",
    "surrogate": "What the search works with: a latency model and errors measured once, in place of real generations.",
    "predicted error": "What the search minimises: errors of attention outputs, added up over sites. It ranks "
    "schedules of one kind, has no unit, and says nothing about videos by itself.",
    "finalist": "A schedule of the search that was tried in a real generation; the best kind among them is certified.",
    "gap": "By how much the least predicted error that is possible may lie below that of the schedule, as a share of "
    "the latter. What is possible is taken over all schedules that fill in as this one does, every block on "
    "its own. A plain pattern, such as one window again and again, can have a large gap, and is chosen where it does "
    "better in real generations. `asymrnr-tune solve` gives another gap, often under 1 %: it knows only schedules that "
    "copy, and compares the best of these with the least error possible by copying.",
    "best table": "The copying schedule of least predicted error among those whose rates are free at every site.",
    "threshold rule": "A copying schedule in the paper's form: a rate for each range of similarities.",
    "price of interpretability": "How many times the predicted error of the best table the best threshold rule has, at "
    "equal predicted speed: what it costs that a schedule can be read as a rule. Both copy.",
    "Appendix B": "The paper's procedure for finding a threshold rule by hand.",
    "generation": "The unit of cost: the time of one plain video.",
    "divergence": "How far the distribution of the kept tokens is from that of all tokens (Kullback-Leibler).",
}
_PLURALS = r"(?:s|es)?"
_TERMS = re.compile(
    rf"(?<![\w-])({'|'.join(sorted(map(re.escape, GLOSSARY), key=len, reverse=True))}){_PLURALS}(?![\w-])"
)


def anchor(term: str) -> str:
    """The id of a term's entry."""
    return "term-" + re.sub(r"\W+", "-", term.lower())


def linked(text: str) -> Markup:
    """Text, escaped, in which every term links to its entry where it comes first."""
    seen: set[str] = set()

    def link(match: re.Match[str]) -> str:
        term = match[1]
        if term in seen:
            return match[0]
        seen.add(term)
        return f'<a class="term" href="#{anchor(term)}">{match[0]}</a>'

    return Markup(_TERMS.sub(link, str(escape(text))))
