# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, offline: nothing loaded, nothing on the console, no barrier that axe-core finds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.page import page
from tests.reporting.test_report import RATES, RECORD, group, write

pytest.importorskip("playwright", reason="needs playwright: the dependency group `browser`")

pytestmark = pytest.mark.slow
axe_module = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        own = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            launched = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"needs Chromium (`playwright install chromium`): {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    hostile = [
        dict(RATES[0], prompt="<script>alert(1)</script>\u202e", completion="<img src=x onerror=alert(1)>")
    ]
    runs = {
        "rate": build_report(write(folder / "r.jsonl", RATES + hostile, RECORD), gold="gold", group="kind"),
        "rerank": build_report(
            write(folder / "k.jsonl", [group([3.0, 9.0, 5.0, None], [0.0, 1.0, 0.5, 0.9])]), gold="gold"
        ),
    }
    for name, report in runs.items():
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in runs}


@pytest.mark.parametrize("name", ["rate", "rerank"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, offline=True)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append("dialog"))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(pages[name].as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []

    # Everything is to be reached with the keyboard: the skip link first, then every fold and wide table.
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    wanted = opened.evaluate(
        "document.querySelectorAll('summary, a').length + document.querySelectorAll('.wide:not(details *)').length"
    )
    seen = set()
    for _ in range(wanted + 5):
        seen.add(opened.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        opened.keyboard.press("Tab")
    assert len(seen) >= wanted

    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    context.close()


@pytest.mark.parametrize("name", ["rate", "rerank"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    """The checker is itself a script, which the page's policy would refuse: here it is let in."""
    context = browser.new_context(color_scheme=scheme, offline=True, bypass_csp=True)
    opened = context.new_page()
    opened.goto(pages[name].as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe_module.Axe().run(opened).response["violations"]
    assert [(v["impact"], v["id"]) for v in found if v["impact"] in ("serious", "critical")] == []
    context.close()
