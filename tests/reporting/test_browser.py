# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, offline: nothing loaded, nothing on the console, no barrier that axe-core finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.page import page
from tests.reporting.test_breakdown import CRITERIA, PANEL, by_criteria, criterion, ranked
from tests.reporting.test_report import RATES, RECORD, group, write
from tests.reporting.test_training_log import log

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


HOSTILE = "<script>alert(1)</script>\u202e\x00\ud800<img src=x onerror=alert(1)>" + "y" * 100_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    hostile = [dict(RATES[0], prompt=HOSTILE, completion=HOSTILE, critique=HOSTILE, kind=HOSTILE[:60])]
    rate = write(folder / "r.jsonl", RATES + hostile, RECORD)
    other = write(folder / "other.jsonl", [dict(row, reward=5.0) for row in RATES], RECORD)
    rankings = write(folder / "k.jsonl", [group([3.0, 9.0, 5.0, None], [0.0, 1.0, 0.5, 0.9])])
    wide = by_criteria(*(criterion(f"{n} {HOSTILE[:80]}", n / 9) for n in range(10)))
    runs = {
        "rate": build_report(rate, gold="gold", group="kind"),
        "rerank": build_report(rankings, gold="gold"),
        "two": build_report(rate, other, gold="gold", group="kind"),
        "breakdown": build_report(write(folder / "b.jsonl", [ranked([2.0, 9.0], [4.0, 8.0])])),
        "criteria": build_report(write(folder / "c.jsonl", [*CRITERIA, *PANEL, wide])),
        "training": build_report(write(folder / "log.jsonl", log())),
    }
    for name, report in runs.items():
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in runs}


NAMES = ["rate", "rerank", "two", "breakdown", "criteria", "training"]


@pytest.mark.parametrize("name", NAMES)
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
        "document.querySelectorAll(':is(summary, a, input, select, button, .wide, .texts):not('"
        " + 'details:not([open]) > :not(summary), details:not([open]) > :not(summary) *)').length"
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, pages: dict[str, Path], name: str, scheme: str) -> None:
    """The checker is itself a script, which the page's policy would refuse: here it is let in."""
    context = browser.new_context(color_scheme=scheme, offline=True, bypass_csp=True)
    opened = context.new_page()
    opened.goto(pages[name].as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe_module.Axe().run(opened).response["violations"]
    assert [(v["impact"], v["id"]) for v in found] == []
    context.close()


def shown_rows(opened: Any) -> list[str]:
    texts: list[str] = opened.locator(".rows > .case:visible > summary").all_inner_texts()
    return [text.split(":")[0] for text in texts]


def test_a_reader_searches_filters_and_sorts(browser: Any, pages: dict[str, Path]) -> None:
    opened = browser.new_context(offline=True).new_page()
    opened.goto(pages["rate"].as_uri())
    assert shown_rows(opened) == [f"Line {n}" for n in range(1, 7)]
    opened.locator("select[name=kind]").select_option("failed")
    assert shown_rows(opened) == ["Line 3"]
    assert opened.locator(".tools output").inner_text() == "1 of 6 shown"
    opened.locator("select[name=kind]").select_option("")
    opened.locator("select[name=sort]").select_option("reward -1")
    # Without a reward it is last in both directions.
    assert shown_rows(opened) == ["Line 4", "Line 1", "Line 5", "Line 6", "Line 2", "Line 3"]
    opened.locator("select[name=sort]").select_option("reward 1")
    assert shown_rows(opened) == ["Line 2", "Line 1", "Line 5", "Line 6", "Line 4", "Line 3"]
    opened.locator("input[name=search]").fill("ALERT(1) onerror")
    assert shown_rows(opened) == ["Line 6"]
    opened.locator("input[name=search]").fill("")
    opened.locator("select[name=group]").select_option("b")
    assert shown_rows(opened) == ["Line 2", "Line 3"]
    opened.locator("button[name=fold]").click()
    assert opened.locator(".rows > .case[open]").count() == 2


def test_a_row_of_a_heat_map_opens_its_judgment(browser: Any, pages: dict[str, Path]) -> None:
    opened = browser.new_context(offline=True).new_page()
    opened.goto(pages["criteria"].as_uri())
    opened.locator("select[name=kind]").select_option("failed")
    opened.locator("section[aria-labelledby=part-criteria-map] a", has_text="Line 2").click()
    row = opened.locator("#rows-line-2")
    assert row.get_attribute("open") is not None
    assert row.is_visible()
    failed = opened.locator("#rows-line-2 td.failed")
    assert failed.inner_text().split() == ["failed", "low_mass"]
    assert failed.evaluate("e => getComputedStyle(e).borderTopStyle") == "dashed"


def test_the_page_is_whole_without_its_script(browser: Any, pages: dict[str, Path]) -> None:
    opened = browser.new_context(offline=True, java_script_enabled=False).new_page()
    opened.goto(pages["rerank"].as_uri())
    assert not opened.locator(".tools").is_visible()
    assert opened.locator(".rows > .case").count() == 1
    opened.locator(".rows > .case > summary").click()
    titles = opened.locator(".rows .answer h3").all_inner_texts()
    assert titles == ["1. completion 2", "2. completion 3", "3. completion 1", "4. completion 4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_telephone_needs_no_sideways_scrolling(browser: Any, pages: dict[str, Path], name: str) -> None:
    opened = browser.new_context(offline=True, viewport={"width": 420, "height": 800}).new_page()
    opened.goto(pages[name].as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 420
    assert opened.locator(".chart.wide-chart").first.is_hidden()
    assert opened.locator(".chart.narrow").first.is_visible()


def test_print_is_light_and_shows_the_numbers(browser: Any, pages: dict[str, Path]) -> None:
    opened = browser.new_context(offline=True, color_scheme="dark").new_page()
    opened.goto(pages["rate"].as_uri())
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    table = opened.locator("details.unfold table").first
    assert table.is_visible()
    assert opened.locator(".tools").is_hidden()
    # Rows to browse stay folded, unless the reader opened them.
    assert not opened.locator(".rows .answer").first.is_visible()


def test_figures_on_the_page_are_those_of_the_record(browser: Any, pages: dict[str, Path]) -> None:
    """What a reader sees in the tables and beside the bars, against the figures that the page holds."""
    opened = browser.new_context(offline=True).new_page()
    opened.goto(pages["rate"].as_uri())
    held = json.loads(opened.locator("#figures").text_content())
    parts = {part["id"]: part for part in held["parts"]}
    facts = dict(
        zip(
            *(opened.locator(f"#part-overview + dl {t}").all_inner_texts() for t in ("dt", "dd")), strict=True
        )
    )
    assert facts == parts["overview"]["facts"]
    charts = [part for part in held["parts"] if "series" in part]
    assert len(charts) >= 5
    for part in charts:
        columns = [v for values in part["series"].values() for v in values if v is not None]
        section = opened.locator(f"section[aria-labelledby='part-{part['id']}']")
        cells = section.locator("td").all_text_contents()
        for value in columns:
            assert (f"{value:.4g}" if isinstance(value, float) else f"{value:,}") in cells
