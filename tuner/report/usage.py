"""How to use a run's schedule: lines to copy."""

from __future__ import annotations

import inspect
import json
import shlex

from tuner.context import Context
from tuner.models import LoadOptions
from tuner.package import file_name

PYTHON = """\
import asymrnr
{imports}

pipe = load_pipeline({pipeline})
with asymrnr.apply(pipe, asymrnr.load("{schedule}")) as handle:
    frames = pipe(
        {prompt},
{arguments}
    ).frames[0]
    print(handle.summary())  # what was really reduced"""


def snippets(ctx: Context, prompt: str) -> dict[str, str]:
    """Python and shell, by name, as they work in the folder of the run.

    Args:
        ctx: the run.
        prompt: to show as an example.
    """
    return {"Python": _python(ctx, prompt), "Shell": _shell(ctx, prompt)}


def _python(ctx: Context, prompt: str) -> str:
    options, load = ctx.options, ctx.options.load
    given, imports = [_quoted(options.model)], "from tuner.models import load_pipeline"
    if options.device != "cpu" or load != LoadOptions():
        given.append(_quoted(options.device))
    if load != LoadOptions():
        imports = "from pathlib import Path\n\nfrom tuner.models import LoadOptions, load_pipeline"
        weights = None if load.weights is None else f"Path({_quoted(str(load.weights))})"
        backend = None if load.attention_backend is None else _quoted(load.attention_backend)
        values = [weights, _quoted(load.offload), backend]
        values += [f"lora={load.lora!r}"] if load.lora else []
        values += [] if load.quantize is None else [f"quantize={_quoted(load.quantize)}"]
        given.append(f"LoadOptions({', '.join(map(str, values))})")
    accepted = inspect.signature(ctx.entry.pipeline.__call__).parameters
    called = {name: value for name, value in ctx.entry.workload.call_kwargs().items() if name in accepted}
    return PYTHON.format(
        imports=imports,
        pipeline=", ".join(given),
        schedule=file_name(options.target_speedup),
        prompt=_quoted(prompt),
        arguments="\n".join(f"        {name}={value!r}," for name, value in called.items()),
    )


def _quoted(text: str) -> str:
    """A string as Python reads it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _shell(ctx: Context, prompt: str) -> str:
    options, load = ctx.options, ctx.options.load
    command = ["asymrnr-tune", "generate", "--model", options.model]
    command += ["--schedule", file_name(options.target_speedup), "--prompt", prompt]
    command += [] if options.device == "cpu" else ["--device", options.device]
    command += [] if load.weights is None else ["--weights", str(load.weights)]
    command += [] if load.offload == "none" else ["--offload", load.offload]
    command += [] if load.attention_backend is None else ["--attention-backend", load.attention_backend]
    command += [word for lora in load.lora for word in ("--lora", lora)]
    command += [] if load.quantize is None else ["--quantize", load.quantize]
    return shlex.join([*command, "-o", "out.mp4"])
