#!/usr/bin/env python3
"""The page in the browser: from a cold start to the first answer, and what the accessibility checker axe finds. See people.md.

python benchmarks/page.py --config configs/demo.yaml --photo PHOTO --axe node_modules/axe-core/axe.min.js

(npm install axe-core; Chromium is the system's.) The report of the experiment is checked, too, where it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.config import load_config

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "page.json"
REPEATS = 5
PATIENCE = 300_000  # ms
LOOKS = {"light, desktop": ("light", 1200, 900), "dark, phone": ("dark", 390, 844)}
VIEWS = {"Camera": "Take a photo", "Test photos": "Other photos", "Thresholds": "The curve as a table"}


@contextmanager
def served(arguments: list[str]) -> Iterator[str]:
    """The page's address; the server is started, and ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", *arguments, "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            while server.poll() is None:
                with socket.socket() as knock:
                    if knock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def cold_start(browser: Browser, arguments: list[str], photo: Path) -> dict[str, float]:
    """Seconds since the command until the server listens, the page can be used, the uploaded photo is answered."""
    start = time.perf_counter()
    with served(arguments) as address:
        listens = time.perf_counter() - start
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.locator("input[type=file]").wait_for(state="attached")
        usable = time.perf_counter() - start
        page.locator("input[type=file]").set_input_files(str(photo))
        page.get_by_text("Which stage answered, and why").wait_for()
        answered = time.perf_counter() - start
        page.close()
    return {"listens_s": listens, "usable_s": usable, "answered_s": answered}


def findings(page: Page, axe: Path) -> list[dict[str, Any]]:
    """What axe finds on the page as it is."""
    page.add_script_tag(path=str(axe))
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(result => result.violations)")
    keys = ("id", "impact", "help")
    return [{**{k: one[k] for k in keys}, "where": [n["html"][:200] for n in one["nodes"]][:3]} for one in found]


def check(browser: Browser, address: str, photo: Path, axe: Path) -> dict[str, list[dict[str, Any]]]:
    """Every view of the page, light on a desktop and dark on a phone."""
    found = {}
    for look, (scheme, width, height) in LOOKS.items():
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(address)
        page.locator("input[type=file]").set_input_files(str(photo))
        page.get_by_text("Which stage answered, and why").wait_for()
        page.get_by_text("looked (asks it again").click()
        page.get_by_text("What the model sees").wait_for()
        found[f"{look}, one photo"] = findings(page, axe)
        page.locator("input[type=file]").set_input_files([str(photo), str(photo)])
        page.get_by_role("button", name="Download as CSV").wait_for()
        found[f"{look}, many photos"] = findings(page, axe)
        for view, there in VIEWS.items():
            page.get_by_role("tab", name=view).click()
            page.get_by_text(there).first.wait_for()
            page.wait_for_timeout(1000)
            found[f"{look}, {view}"] = findings(page, axe)
        context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--axe", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    arguments = ["--config", str(given.config), *(word for one in given.overrides for word in ("--set", one))]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    config = load_config(given.config, given.overrides)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        starts = [cold_start(browser, arguments, given.photo) for _ in range(given.repeats)]
        with served(arguments) as address:
            found = check(browser, address, given.photo, given.axe)
        report = config.output / "report.html"
        if report.is_file():
            page = browser.new_page(viewport={"width": 390, "height": 844})
            page.set_default_timeout(PATIENCE)
            page.goto(report.resolve().as_uri())
            found["report.html, phone"] = findings(page, given.axe)
        browser.close()
    result = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "axe": json.loads((given.axe.parent / "package.json").read_text())["version"],
        "experiment": config.experiment,
        "cold_start": {key: round(statistics.median(one[key] for one in starts), 2) for key in starts[0]},
        "repeats": given.repeats,
        "findings": found,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
