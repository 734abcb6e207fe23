"""Prompts to tune on and prompts to certify on, none in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tuner.certify.statistics import LOOKS
from tuner.errors import UsageError

Prompts = Callable[[int], list[str]]

TUNED_ON = 3  # prompts that tuning takes: the noise floor all, profiling and verification the first two
LEAST_HELD_OUT = LOOKS[0].pairs
COMMENT = "#"

# Motion of different kinds and speeds, few and many objects, flat and busy backgrounds, still and moving cameras.
TUNING = (
    "A grey heron steps slowly through shallow water at dawn, mist drifting behind it, the camera perfectly still.",
    "A red tram turns a corner in a rainy city at night, its lights sliding over the wet cobblestones.",
    "Close-up of hands kneading bread dough on a floured wooden table, soft light from a window on the left.",
    "The camera flies low over a field of sunflowers towards a white farmhouse under fast clouds.",
)
HELD_OUT = (
    "A border collie jumps over a fallen log in a beech forest, dry leaves whirling up behind its paws.",
    "A paper boat floats down a narrow gutter after the rain, spinning past small stones.",
    "A potter shapes a clay bowl on a turning wheel, wet fingers pressing the rim, shallow depth of field.",
    "Waves break against a black basalt cliff in slow motion, spray hanging in the evening sun.",
    "A yellow hot-air balloon rises above a snowy valley while the camera circles around it.",
    "Two children in blue raincoats chase pigeons across a market square, filmed from a high window.",
    "A goldfish swims around a miniature castle in a glass bowl, bubbles rising along the wall.",
    "An old steam locomotive crosses a stone viaduct, white smoke trailing over autumn trees.",
    "A barista pours milk into a cup of coffee and draws a leaf, seen from directly above.",
    "A field of barley moves in the wind under a thunderstorm, lightning flickering on the horizon.",
    "A cyclist rides along a canal at sunset, long shadows passing over a brick wall.",
    "A chameleon on a branch turns one eye to the camera and slowly changes from green to orange.",
    "Lanterns drift up from a river bank into a dark sky, their reflections trembling on the water.",
    "A robot arm places a glass marble on top of a wooden tower, plain grey studio background.",
    "A woman in a green dress dances alone in an empty ballroom, the camera following her turns.",
    "Time-lapse of a tulip opening in a clay pot on a windowsill, dust moving in a beam of light.",
    "A fishing boat enters a small harbour at dusk, gulls circling over the stern, the camera panning slowly.",
    "A street musician plays the accordion under an arcade, passers-by blurred in front of her.",
    "Fresh snow falls on a bamboo garden with a stone lantern, nothing else moves.",
    "A skateboarder rolls down a concrete bowl and up the other side, filmed from its rim with a wide lens.",
    "Macro shot of a honey bee crawling over a purple thistle, its wings glinting in the sun.",
    "A crowded ferris wheel turns against a pink sky, its coloured lamps switching on one by one.",
    "A lighthouse beam sweeps across a calm sea at night, stars slowly wheeling above it.",
    "A chef tosses vegetables in a flaming wok, sparks and steam rising in a narrow kitchen.",
)


def written(prompts: tuple[str, ...]) -> Prompts:
    """The first so many of a list.

    Returns:
        A function of the count that raises UsageError when the list is shorter.
    """

    def first(count: int) -> list[str]:
        if count > len(prompts):
            raise UsageError(f"{count} prompts were asked for, but only {len(prompts)} are there; ask for fewer.")
        return list(prompts[:count])

    return first


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a text file, one a line; empty lines and those that begin with # are left out.

    Raises:
        UsageError: the file cannot be read, or is not UTF-8.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise UsageError(f"The prompts {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The prompts {path} are not UTF-8 text; save them as such, one prompt a line.") from None
    return tuple(line for line in lines if line and not line.startswith(COMMENT))


def divided(prompts: Sequence[str]) -> tuple[Prompts, Prompts]:
    """Prompts to tune on, the first `TUNED_ON`, and prompts to certify on, the others; what comes twice counts once.

    Returns:
        Two functions of the count; the second one gives what there is when asked for more.

    Raises:
        UsageError: there are too few.
    """
    different = tuple(dict.fromkeys(prompts))
    if len(different) < TUNED_ON + LEAST_HELD_OUT:
        raise UsageError(
            f"--prompts gives {len(different)} different prompts, but {TUNED_ON + LEAST_HELD_OUT} are needed: "
            f"the first {TUNED_ON} to tune on, the others, at least {LEAST_HELD_OUT}, to certify on."
        )
    held_out = different[TUNED_ON:]
    return written(different[:TUNED_ON]), lambda count: list(held_out[:count])
