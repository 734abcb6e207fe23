"""The runtime works without what only the tuner needs, and the console script says so where that is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tuner.start import NEEDED

ROOT = Path(__file__).parents[2]
MODULES = {"pyyaml": "yaml", "imageio-ffmpeg": "imageio_ffmpeg"}
# As if nothing of the extra were installed; diffusers and torch look for some of it, too, and go without.
HIDDEN = """
import sys
class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {names!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
"""
APPLY = """
import asymrnr, torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "text_dim": 8}
model = WanTransformer3DModel(**sizes, freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32).eval()
schedule = asymrnr.Schedule.uniform(q=0.5)
with torch.no_grad(), asymrnr.apply(model, schedule) as handle:
    model(torch.randn(1, 4, 2, 8, 8), torch.tensor([500]), torch.randn(1, 5, 8))
    print(handle.summary())
print(asymrnr.load("tiny-cogvideox"))
unwanted = sorted({name.partition(".")[0] for name in sys.modules} & set(NAMES))
print("imported:", unwanted)
"""


def test_the_console_script_knows_what_the_extra_brings() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["tune"]
    names = {each.partition(">")[0].lower() for each in extra}
    assert {MODULES.get(name, name) for name in names} == set(NEEDED)


def test_the_runtime_needs_nothing_of_the_tuner() -> None:
    names = set(NEEDED) - {"safetensors", "filelock", "transformers", "tokenizers", "yaml", "jinja2"}  # others' needs
    code = HIDDEN.format(names=names) + f"NAMES = {sorted(names)!r}" + APPLY
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Q reduced at 2 of 2 planned sites" in done.stdout
    assert "<Schedule: 8 blocks x 30 steps" in done.stdout
    assert "imported: []" in done.stdout


def test_what_is_missing_is_one_sentence() -> None:
    code = "import tuner.start as s; s.NEEDED = (*s.NEEDED, 'no_such_module'); s.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: asymrnr-tune needs packages that are not installed (no_such_module); "
        'pip install "asymrnr[tune]" brings them.\n'
    )
