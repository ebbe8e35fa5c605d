"""The page in a real browser: upload, grid, sliders, file, a phone's width, keyboard alone. Skipped where there is no Chromium.

With OMMATIDIA_AXE naming an axe.min.js (npm package axe-core) the page is also checked for accessibility.
"""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from toy import COLOURS, Experiment, write_photo

from pipeline.edge.results import COLUMNS

pytest.importorskip("streamlit")
sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120_000  # ms; a busy machine
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def address(packed: Experiment) -> Iterator[str]:
    """Where the page is served, by the script as people call it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--config", str(packed.yaml), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert f"http://127.0.0.1:{port}" in server.stderr.readline()
            _wait(f"http://127.0.0.1:{port}/_stcore/health", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[str]) -> None:
    while server.poll() is None:
        try:
            if urllib.request.urlopen(url, timeout=10).status == 200:
                return
        except (URLError, ConnectionError):
            continue
    raise AssertionError("the server ended before it answered")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[(1200, 900)])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page; whatever goes wrong in its console, and whatever it asks of other machines, fails the test."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda asked: None if _mine(asked.url, address) else wrong.append(asked.url))
    opened.goto(address)
    opened.get_by_role("tab", name="Upload").wait_for()
    yield opened
    context.close()
    assert wrong == []


def _mine(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def upload(page: Any, *files: Path) -> None:
    page.locator("input[type=file]").set_input_files([str(file) for file in files])


def photos(folder: Path) -> list[Path]:
    return [write_photo(folder / f"{i}.png", colour) for i, colour in enumerate(COLOURS.values())]


def test_an_upload_is_answered_and_many_are_a_file(page: Any, tmp_path: Path) -> None:
    files = photos(tmp_path)
    upload(page, files[0])
    page.get_by_role("heading", name="Apis mellifera", exact=True).wait_for()
    page.get_by_text("Which stage answered, and why").wait_for()
    page.get_by_role("img", name="The photo that was asked, 0.png").wait_for()
    upload(page, *files[1:])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["species"] for row in rows] == list(COLOURS)


def test_a_photo_of_the_grid_and_a_slider(page: Any) -> None:
    page.get_by_role("tab", name="Test photos").click()
    page.get_by_role("button", name="Other photos").wait_for()
    page.get_by_role("button", name="Apis mellifera", exact=True).first.click()
    page.get_by_text("Its true species is").wait_for()
    page.get_by_role("tab", name="Thresholds").click()
    rate = page.get_by_test_id("stMetric").filter(has_text="Communication rate").get_by_test_id("stMetricValue")
    before = rate.inner_text()
    slider = page.get_by_role("slider", name="Threshold of cache_0.5_0")
    slider.press("End")
    sync_api.expect(rate).to_have_text("100.0%", timeout=PATIENCE)
    page.get_by_role("button", name="Back to the bundle's thresholds").click()
    sync_api.expect(rate).to_have_text(before, timeout=PATIENCE)


@pytest.mark.parametrize("page", [(360, 740)], indirect=True)
def test_a_phone_needs_no_sideways_scrolling(page: Any, tmp_path: Path) -> None:
    upload(page, *photos(tmp_path))
    page.get_by_role("button", name="Download as CSV").wait_for()
    wide = "element => element.scrollWidth - element.clientWidth"
    for tab, there in (
        ("Upload", "Look closer at"),
        ("Test photos", "Other photos"),
        ("Thresholds", "On 15 val photos"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.get_by_text(there).first.wait_for()
        for part in ("html", "[data-testid=stMain]"):
            assert page.locator(part).evaluate(wide) <= 0, tab


def tab_to(page: Any, wanted: str) -> None:
    """Press the tab key until the element in focus, e, fits a condition in JavaScript."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"(e => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"the tab key does not reach {wanted}")


def test_the_grid_by_the_keyboard_alone(page: Any) -> None:
    """To the tabs by the tab key, along them by arrows, into the grid, and a photo by the space bar."""
    tab_to(page, "e.getAttribute('role') === 'tab'")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Other photos").wait_for()
    tab_to(page, "e.closest('[class*=st-key-pick]') !== null")
    page.keyboard.press("Space")
    page.get_by_text("Its true species is").wait_for()


def test_an_upload_and_its_heat_map_by_the_keyboard_alone(page: Any, tmp_path: Path) -> None:
    """A photo is chosen, and where the model looked is opened and closed, without a mouse."""
    page.on(
        "filechooser", lambda _: None
    )  # from now on dialogs come here; heard of at the key alone, one may come too early
    tab_to(page, "e.closest('[data-testid=stFileUploader]') !== null")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos(tmp_path)[0])
    page.get_by_role("heading", name="Apis mellifera", exact=True).wait_for()
    heat = page.get_by_role("img", name="The photo in grey, orange where it matters for Apis mellifera")
    tab_to(page, "e.tagName === 'SUMMARY' && e.innerText.includes('looked')")
    page.keyboard.press("Enter")
    heat.wait_for()
    assert (
        page.evaluate("document.activeElement.tagName") == "SUMMARY"
    )  # the place is kept while the page is drawn anew
    page.keyboard.press("Enter")
    heat.wait_for(state="hidden")


@pytest.mark.skipif("OMMATIDIA_AXE" not in os.environ, reason="set OMMATIDIA_AXE to the axe.min.js of axe-core")
def test_no_serious_finding_of_axe_but_streamlits_own(page: Any, tmp_path: Path) -> None:
    upload(page, *photos(tmp_path))
    page.get_by_role("button", name="Download as CSV").wait_for()
    page.add_script_tag(path=os.environ["OMMATIDIA_AXE"])
    found = page.evaluate("axe.run().then(result => result.violations)")
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
