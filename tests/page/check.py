"""Uses every screen of the web page in headless Chromium, as a person would, on a real server.

Run by `.ci/page`, which starts the servers: check.py OPEN_ADDRESS LOCKED_ADDRESS READ_KEY AXE_JS PICTURES
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

OPEN, LOCKED, READ_KEY, AXE, PICTURES = sys.argv[1:6]
SCREENS = ["overview", "generations", "try", "map", "catalogue"]
SIZES = {"phone": (375, 800), "wide": (1600, 1000)}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self';"


@contextmanager
def opened(browser: Browser, base: str, **options: object) -> Iterator[Page]:
    """A page in a context of its own. Fails on errors of the console and on requests to elsewhere."""
    context = browser.new_context(**options)
    page = context.new_page()
    wrong: list[str] = []
    refusals = re.compile(r"status of (400|401|403|404|409|412)")

    def said(message: object) -> None:
        # A browser itself reports answers that are errors, such as that of a filter with a mistake.
        if message.type in ("error", "warning") and not refusals.search(message.text):
            wrong.append(message.text)

    page.on("console", said)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: None if sent.url.startswith((base, "data:")) else wrong.append(sent.url),
    )
    yield page
    assert not wrong, wrong
    context.close()


def screen(page: Page, base: str, name: str) -> None:
    page.goto(f"{base}/#/{name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle")


def search(page: Page) -> None:
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("article").first).to_be_visible()


def tries(page: Page) -> str:
    """Runs a query, mistypes and mends a filter, and explains a video. Returns the id of the first candidate."""
    screen(page, OPEN, "try")
    search(page)
    assert page.get_by_role("article").count() == 20
    area = page.get_by_label("Filter, such as")
    area.press_sequentially("reg")
    page.get_by_role("button", name=re.compile("^region")).click()
    assert area.input_value() == "region "
    area.press_sequentially('= "US" and topci = "cats"')
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("topci")
    caret = area.evaluate("area => area.selectionStart")
    assert area.input_value()[caret:].startswith("topci"), caret
    area.fill('region = "')
    page.get_by_role("button", name=re.compile("^US")).click()
    assert area.input_value() == 'region = "US"'
    search(page)
    assert page.locator("article dd", has_text=re.compile("^US$")).count() == 20
    page.get_by_text("Copy the request").click()
    for name, text in [("curl", "curl -s"), ("grpcurl", "Retrieval/Search"), ("Python", "client.search(")]:
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.locator("pre")).to_contain_text(text)
    page.get_by_text("More", exact=True).click()
    terms = page.get_by_label("Score terms")
    terms.fill("5*log1p(view)")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("view")
    terms.fill('5*log1p(views)\n0.5*decay(published_at, 7d)\n2*match(topic, "cats", "food")')
    search(page)
    expect(page.locator("article").first).to_contain_text("of score terms")
    page.get_by_text("Copy the request").click()
    page.get_by_role("button", name="Python", exact=True).click()
    expect(page.locator("pre")).to_contain_text("score_terms=")
    terms.fill("")
    search(page)
    first = page.locator("article a").first.inner_text()
    page.get_by_text("Why not this video?").click()
    page.get_by_label("Id of a video").fill(first)
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("It is candidate 1.")).to_be_visible()
    page.get_by_label("From").select_option("video")
    page.get_by_label("Ids of videos").fill(first)
    search(page)
    assert first not in page.locator("article a").all_inner_texts()
    page.get_by_label("From").select_option("vector")
    page.get_by_label(re.compile("numbers$")).fill("1, 2")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("found 2")
    return first


def takes_down(page: Page, video: str) -> None:
    """Takes a video down, sees it vanish, and restores it."""
    page.goto(f"{OPEN}/#/catalogue?id={video}")
    page.get_by_role("button", name="Take down").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("State: found")).to_be_visible()
    page.get_by_role("button", name="Take down").click()
    page.locator("dialog").get_by_role("button", name="Take down").click()
    expect(page.get_by_text("State: taken down")).to_be_visible()
    expect(page.get_by_role("cell", name="Takedown", exact=True)).to_be_visible()
    screen(page, OPEN, "try")
    search(page)
    assert video not in page.locator("article a").all_inner_texts()
    page.goto(f"{OPEN}/#/catalogue?id={video}")
    page.get_by_role("button", name="Restore").click()
    page.locator("dialog").get_by_role("button", name="Restore").click()
    expect(page.get_by_text("State: found")).to_be_visible()


def activates(page: Page) -> None:
    """Activates the other generation, and goes back."""
    screen(page, OPEN, "generations")
    page.get_by_text("Compare two").click()
    expect(page.get_by_role("columnheader", name="Generation 1")).to_be_visible()
    for number in ("1", "2"):
        page.get_by_role("button", name=f"Activate {number}").click()
        page.locator("dialog").get_by_role("button", name="Activate").click()
        expect(page.get_by_role("heading", name=f"Generation {number} (serves)")).to_be_visible()


def draws(page: Page) -> None:
    """Draws the map with the last search, colors and zooms it."""
    screen(page, OPEN, "try")
    search(page)
    page.get_by_role("link", name="Map").click()
    expect(page.get_by_role("status").filter(has_text="are marked")).to_be_visible()
    page.get_by_label("Color by").select_option("topic")
    expect(page.locator(".legend li").first).to_be_visible()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_label("Map of the catalog").press("ArrowLeft")


def refused(browser: Browser) -> None:
    """Without a key nothing is shown. A key that may only search may not look at generations."""
    with opened(browser, LOCKED) as page:
        page.goto(LOCKED)
        expect(page.get_by_role("alert")).to_contain_text("Enter a key")
        page.get_by_role("button", name="Key").click()
        page.get_by_label("Key or token").fill(READ_KEY)
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("alert")).to_contain_text("role")


def looks(browser: Browser) -> None:
    """Every screen, light and dark, on a phone and on a wide screen: nothing overflows, and axe has no serious complaint."""
    for scheme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            view = {"width": width, "height": height}
            with opened(browser, OPEN, viewport=view, color_scheme=scheme, bypass_csp=True) as page:
                for name in SCREENS:
                    screen(page, OPEN, name)
                    if name == "try":
                        search(page)
                    found = page.evaluate("document.documentElement.scrollWidth")
                    assert found <= width, f"{name} {scheme} {size}: {found} px wide"
                    page.add_script_tag(path=AXE)
                    violations = page.evaluate("axe.run().then(found => found.violations)")
                    serious = [
                        (of["id"], of["nodes"][0]["html"])
                        for of in violations
                        if of["impact"] in ("serious", "critical")
                    ]
                    assert not serious, f"{name} {scheme} {size}: {serious}"
                    page.screenshot(path=f"{PICTURES}/{name}-{scheme}-{size}.png")


def main() -> None:
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with opened(browser, OPEN) as page:
            answer = page.goto(OPEN)
            assert answer.headers["content-security-policy"].startswith(POLICY)
            paint = page.evaluate("performance.getEntriesByType('paint').find(of => of.name == 'first-contentful-paint')?.startTime")
            print(f"first contentful paint: {paint:.0f} ms")
            for name in SCREENS:
                screen(page, OPEN, name)
            video = tries(page)
            takes_down(page, video)
            activates(page)
            draws(page)
        refused(browser)
        looks(browser)
        browser.close()
    print("the page works")


main()
