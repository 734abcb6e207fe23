"""The report in a browser: no errors of scripts, nothing wider than the screen, no blank figure, all controls."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
import torch

from tests.report import example
from tuner.report.film import Comparison
from tuner.report.html import render_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WATCH = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(event.message));
addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
console.error = (...words) => faults.push(words.join(" "));
</script>"""
PROBE = Path(__file__).with_name("probe.js")
FRAME = """<!doctype html><style>:root { color-scheme: light dark }</style>
<iframe src="/report" style="border: 0; width: %dpx; height: 900px"></iframe>"""  # windows have a least width
SECONDS = 120  # a browser that has not answered by then hangs
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.fixture(scope="module")
def page() -> str:
    """The report, with a script that works it; every frame of its videos has a grey of its own."""
    levels = torch.arange(6)[:, None, None, None] / 10
    plain, tuned = (levels + shift + torch.zeros(6, 3, 16, 16) for shift in (0, 0.1))
    html = render_report(replace(example.report(), comparisons=[Comparison("p", 1, "", plain, tuned)]))
    return html.replace("<head>", f"<head>{WATCH}").replace("</body>", f"<script>{PROBE.read_text()}</script></body>")


@pytest.mark.parametrize(("width", "options"), [(400, ()), (1200, ()), (1200, (DARK,))])
def test_the_page_works(page: str, tmp_path: Path, width: int, options: tuple[str, ...]) -> None:
    found = _open(page, tmp_path, width, options)
    assert "failed" not in found, found["failed"]
    assert found["faults"] == []
    assert found["width"] == width
    assert found["needed"] <= found["room"]  # whatever is wider scrolls within its box
    assert len(found["figures"]) == len(example.figures())
    assert min(found["figures"]) > 2
    assert found["copied"] in ("Copied", "Selected")
    first, right, down, escaped, pointed = found["chart"]
    assert first == "table: 1.100x, predicted error 0.1"
    assert right == "table: 1.200x, predicted error 0.15"
    assert down == "threshold: 1.200x, predicted error 0.3"
    assert escaped == ""
    assert pointed.startswith("finalist 1: 1.300x")
    dark, light = _brightness(found["page"]), _brightness(found["ink"])
    assert (light - dark if options else dark - light) > 0.6
    if not found["plays"]:
        pytest.skip("this browser has no H.264; everything but the videos was checked")
    _check_player(found["player"])


def _check_player(player: dict[str, Any]) -> None:
    assert player["link"] == "blob:"
    assert [step["counter"] for step in player["steps"]] == [f"frame {n} of 6" for n in (1, 2, 3, 2, 6)]
    for number, step in zip((0, 1, 2, 1, 5), player["steps"], strict=True):
        assert step["plain"] == pytest.approx(number / 10, abs=0.02)
        assert step["tuned"] == pytest.approx(number / 10 + 0.1, abs=0.02)
        assert step["difference"] == pytest.approx(0.4, abs=0.02)
    last = [0.5, 0.6]  # plain and tuned
    for place, shown in zip(([1, 1], [0, 1], [0, 0]), player["divided"], strict=True):
        assert shown == pytest.approx([last[side] for side in place], abs=0.02)
    assert player["plays"]


class _Pages(BaseHTTPRequestHandler):
    """Serves pages by their path, and takes what the probe sends."""

    def __init__(self, pages: Mapping[str, str], answers: Queue[dict[str, Any]], *where: Any) -> None:
        self.pages, self.answers = pages, answers
        super().__init__(*where)

    def do_GET(self) -> None:
        self.send_response(200 if self.path in self.pages else 204)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.pages.get(self.path, "").encode())

    def do_POST(self) -> None:
        self.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


def _open(page: str, folder: Path, width: int, options: tuple[str, ...]) -> dict[str, Any]:
    """What the probe found in a headless browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)} is installed")
    answers: Queue[dict[str, Any]] = Queue()
    pages = {"/": FRAME % width, "/report": page}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, pages, answers)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        command += [f"--user-data-dir={folder / 'browser'}", *options, f"http://127.0.0.1:{server.server_port}/"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                return answers.get(timeout=SECONDS)
            except Empty:
                pytest.fail("the page did not come to the end of the probe")
            finally:
                process.terminate()
                server.shutdown()


def _brightness(colour: str) -> float:
    """Of "rgb(r, g, b)", from 0 to 1."""
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)
