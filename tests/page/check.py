"""Uses every screen of the web page in headless Chromium, as a person would, on real servers.

Run by `.ci/page`, which starts the servers:

check.py OPEN LOCKED READ_KEY AXE_JS PICTURES TAKEDOWN_KEY ADMIN_KEY TEXT SPLIT SPLIT_ADMIN

OPEN, LOCKED, TEXT and SPLIT are addresses: of a server without keys, of one with keys, of one whose ids are text, and
of one with keys and the address SPLIT_ADMIN for administration. All have an index `videos`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

OPEN, LOCKED, READ_KEY, AXE, PICTURES, TAKEDOWN_KEY, ADMIN_KEY, TEXT, SPLIT, SPLIT_ADMIN = sys.argv[1:11]
SCREENS = ["overview", "generations", "try", "map", "catalog"]
SIZES = {"phone": (375, 800), "wide": (1600, 1000)}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self';"

# Boxes of text, controls and pictures that lie on each other, though neither is a part of the other. Parts that are
# scrolled out of sight do not count, nor does the tip of the map, which is there to lie above.
OVERLAPS = """() => {
  const controls = "button, input, select, textarea, canvas, img, svg";
  const clipped = (box, element) => {
    let { left, top, right, bottom } = box;
    for (let up = element; up && up !== document.body; up = up.parentElement) {
      if (getComputedStyle(up).overflowX === "visible") continue;
      const frame = up.getBoundingClientRect();
      [left, top] = [Math.max(left, frame.left), Math.max(top, frame.top)];
      [right, bottom] = [Math.min(right, frame.right), Math.min(bottom, frame.bottom)];
    }
    return { left, top, right, bottom, element };
  };
  const isShown = (element) =>
    element.checkVisibility({ visibilityProperty: true }) && !element.closest(".tip, .skip, .hidden");
  const root = document.querySelector("dialog[open]") ?? document.body;
  const boxes = [...root.querySelectorAll(controls)].filter(isShown)
    .map((element) => clipped(element.getBoundingClientRect(), element));
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !isShown(element) || element.closest("option, noscript")) continue;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    for (const box of range.getClientRects()) boxes.push(clipped(box, element));
  }
  boxes.sort((one, other) => one.top - other.top);
  const found = [];
  const named = (element) => `${element.tagName} ${(element.textContent || element.id).slice(0, 40)}`;
  boxes.forEach((one, at) => {
    for (const other of boxes.slice(at + 1)) {
      if (other.top >= one.bottom - 1) break;
      const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (width <= 1 || height <= 1) continue;
      if (one.element.contains(other.element) || other.element.contains(one.element)) continue;
      found.push(`${named(one.element)} / ${named(other.element)}`);
    }
  });
  return found;
}"""


@contextmanager
def opened(browser: Browser, base: str, key: str = "", **options: object) -> Iterator[Page]:
    """A page in a context of its own, with a key. Fails on errors of the console and on requests to elsewhere."""
    context = browser.new_context(**options)
    if key:
        context.add_init_script(f"sessionStorage.setItem('shortlist-key', {json.dumps(key)})")
    page = context.new_page()
    wrong: list[str] = []
    refusals = re.compile(r"status of (400|401|403|404|409|412)")

    def said(message: object) -> None:
        # A browser itself reports answers that are errors, such as that of a filter with a mistake.
        if message.type in ("error", "warning") and not refusals.search(message.text):
            wrong.append(message.text)

    page.on("console", said)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith((base, "data:")) else wrong.append(sent.url))
    yield page
    assert not wrong, wrong
    context.close()


def screen(page: Page, base: str, name: str) -> None:
    page.goto(f"{base}/#/{name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle")


def press(page: Page, name: str, within: str = "main") -> None:
    page.locator(within).get_by_role("button", name=name, exact=True).click()


def text(page: Page, words: str, **options: bool) -> Locator:
    """Where a screen shows words. Those for screen readers are elsewhere."""
    return page.locator("main").get_by_text(words, **options)


def cards(page: Page) -> Locator:
    return page.get_by_role("article")


def ids(page: Page) -> list[str]:
    """The ids of the candidates, which the links of their cards have."""
    return page.locator("article p a").all_inner_texts()


def search(page: Page) -> None:
    """Presses the button, and waits for the answer."""
    with page.expect_response(lambda answer: answer.url.endswith(":search")):
        press(page, "Search")
    expect(cards(page).first).to_be_visible()


def caret(area: Locator) -> int:
    return area.evaluate("area => area.selectionStart")


def filters(page: Page) -> None:
    """Types a filter with the help of the suggestions, by pointer and by keys, mistypes and mends it."""
    area = page.get_by_label("Filter, such as")
    area.press_sequentially("reg")
    page.get_by_role("option", name=re.compile("^region")).click()
    assert area.input_value() == "region "
    expect(page.get_by_role("option", name="not in (")).to_be_visible()
    area.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    area.press_sequentially('= "US" and topci = "cats"')
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("topci")
    assert area.input_value()[caret(area) :].startswith("topci"), caret(area)
    assert area.get_attribute("aria-invalid") == "true"
    area.fill(' region = "US" and =')
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("column 20")
    assert caret(area) == 19, caret(area)
    area.fill("region = ")
    area.press_sequentially("u")
    expect(page.get_by_role("option", name=re.compile("^US"))).to_be_visible()
    area.press("ArrowDown")
    area.press("Enter")
    assert area.input_value() == 'region = "US"', area.input_value()
    search(page)
    assert page.locator("article dd", has_text=re.compile("^US$")).count() == 20


def rules(page: Page) -> None:
    """Mistakes are shown at their controls, and what is right is sent."""
    text(page, "More", exact=True).click()
    reserve = page.get_by_label("Reserve, one per line")
    reserve.fill("1:true\n5:views <")
    press(page, "Search")
    expect(reserve).to_have_attribute("aria-invalid", "true")
    expect(reserve).to_be_focused()
    assert caret(reserve) == len("1:true\n5:views <"), caret(reserve)
    reserve.fill("7%:views < 100")
    page.get_by_label("Caps").fill("creator = 2")
    page.get_by_label("Fresh").fill("7d 1")
    search(page)
    text(page, "Copy the request").click()
    press(page, "Python")
    for part in ("reserve=", '"7%:views < 100"', 'caps={"creator": 2}', 'shortlist.Fresh("published_at", timedelta('):
        expect(page.locator("pre")).to_contain_text(part)
    page.get_by_label("Fresh").fill("soon")
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("found soon")
    for name in ("Fresh", "Caps", "Reserve"):
        page.get_by_label(name).fill("")
    terms = page.get_by_label("Score terms")
    terms.fill("5*log1p(view)")
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("view")
    terms.fill('5*log1p(views)\n0.5*decay(published_at, 7d)\n2*match(topic, "cats", "food")')
    search(page)
    expect(cards(page).first).to_contain_text("From score terms")
    terms.fill("")
    page.get_by_label("Thumbnails").fill("http://img.example/{video_id}.jpg")
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("Expected an address that begins with https://")
    page.get_by_label("Thumbnails").fill("")


def copied(page: Page, key: str = "") -> None:
    """The commands are what they are called, and that for curl gives the same answer."""
    text(page, "Copy the request").click()
    for name, part in [("grpcurl", "Retrieval/Search"), ("Python", "client.search("), ("curl", "curl -s")]:
        press(page, name)
        expect(page.locator("pre")).to_contain_text(part)
        if name == "Python":
            compile(page.locator("pre").inner_text(), "copied", "exec")
        assert key == "" or key not in page.locator("pre").inner_text()
    command = page.locator("pre").inner_text()
    found = [of.get("textId") or of["videoId"] for of in answered(command, key)["candidates"]]
    assert found == ids(page), (found, command)


def answered(command: str, key: str) -> dict:
    """What a command for curl prints. Without curl, its request is sent from here."""
    if shutil.which("curl"):
        variables = {**os.environ, "SHORTLIST_KEY": key}
        return json.loads(
            subprocess.run(["sh", "-c", command], env=variables, check=True, stdout=subprocess.PIPE).stdout
        )
    words = shlex.split(command.replace("\\\n", " "))
    headers = [words[at + 1].replace("$SHORTLIST_KEY", key) for at, word in enumerate(words) if word == "-H"]
    request = urllib.request.Request(
        words[2], words[words.index("-d") + 1].encode(), dict(header.split(": ", 1) for header in headers)
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def explains(page: Page) -> str:
    """Explains videos, and uses the actions of a card. Returns the id of the first candidate."""
    first = ids(page)[0]
    text(page, "Why not this video?").click()
    press(page, "Explain")
    expect(page.get_by_role("alert")).to_contain_text("Expected the id of a video")
    page.get_by_label("Id of a video").fill("5")
    page.get_by_label("Id of a video").press("Enter")
    expect(text(page, "Video 5 is not in this index.")).to_be_visible()
    press(page, f"Why {first}")
    expect(text(page, "is candidate 1.")).to_be_visible()
    press(page, f"Exclude {first}")
    expect(page.get_by_role("heading", name="20 candidates")).to_be_focused()
    assert first not in ids(page)
    page.get_by_label("Exclude", exact=True).fill("")
    page.get_by_role("link", name=f"More like this: {ids(page)[0]}").click()
    expect(page.get_by_label("From")).to_have_value("video")
    expect(cards(page).first).to_be_visible()
    page.get_by_label("From").select_option("vector")
    page.get_by_label(re.compile("numbers$")).fill("1, 2")
    press(page, "Search")
    expect(page.get_by_role("alert")).to_contain_text("found 2")
    return first


def tries(page: Page) -> str:
    screen(page, OPEN, "try")
    search(page)
    assert cards(page).count() == 20
    filters(page)
    rules(page)
    page.get_by_label("Filter, such as").fill('title != "it\'s"')
    search(page)
    copied(page)
    return explains(page)


def keeps_the_form(page: Page) -> None:
    """The form is in the address: it survives a reload, Back leads to the search before, and a link runs."""
    screen(page, OPEN, "overview")
    screen(page, OPEN, "try")
    page.get_by_label("k", exact=True).fill("7")
    search(page)
    page.get_by_label("k", exact=True).fill("9")
    page.get_by_label("Filter, such as").fill('region = "US"')
    search(page)
    before = ids(page)
    page.reload()
    expect(cards(page)).to_have_count(9)
    assert page.get_by_label("Filter, such as").input_value() == 'region = "US"'
    assert ids(page) == before
    page.go_back()
    expect(cards(page)).to_have_count(7)
    assert page.get_by_label("Filter, such as").input_value() == ""
    page.get_by_role("link", name="Map").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Map")
    page.get_by_role("link", name="Try it").click()
    expect(cards(page)).to_have_count(7)
    page.keyboard.press("Home")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try it")
    page.goto(f"{OPEN}/#/nothing")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def takes_down(page: Page, video: str) -> None:
    """Takes a video down, sees it vanish, and restores it."""
    screen(page, OPEN, "try")
    search(page)
    assert video in ids(page)
    page.goto(f"{OPEN}/#/catalog?id={video}")
    page.get_by_role("button", name="Take down").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    press(page, "Cancel", "dialog")
    expect(text(page, "State: found")).to_be_visible()
    press(page, "Take down")
    press(page, "Take down", "dialog")
    expect(text(page, "State: taken down")).to_be_visible()
    expect(page.get_by_role("heading", name=f"Video {video}")).to_be_focused()
    expect(page.get_by_role("cell", name="Takedown", exact=True)).to_be_visible()
    screen(page, OPEN, "try")
    search(page)
    assert video not in ids(page)
    text(page, "Why not this video?").click()
    page.get_by_label("Id of a video").fill(video)
    press(page, "Explain")
    expect(text(page, "was taken down")).to_be_visible()
    page.goto(f"{OPEN}/#/catalog?id={video}")
    press(page, "Restore")
    press(page, "Restore", "dialog")
    expect(text(page, "State: found")).to_be_visible()
    page.go_back()
    expect(cards(page).first).to_be_visible()
    assert video in ids(page)
    page.go_forward()
    expect(text(page, "State: found")).to_be_visible()
    page.get_by_label("Id of a video").fill("5")
    press(page, "Look it up")
    expect(text(page, "State: not in this index")).to_be_visible()
    expect(text(page, "No changes since the server started")).to_be_visible()
    page.go_back()
    expect(text(page, "State: found")).to_be_visible()


def activates(page: Page) -> None:
    """Compares two generations, activates the other one, and goes back."""
    screen(page, OPEN, "generations")
    text(page, "Compare two").click()
    expect(page.get_by_role("columnheader", name="Generation 1")).to_be_visible()
    press(page, "Compare answers")
    expect(text(page, "Overlap 1.0000")).to_be_visible()
    for number in ("1", "2"):
        press(page, f"Activate {number}")
        press(page, "Activate", "dialog")
        expect(page.get_by_role("heading", name=f"Generation {number} (serves)")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_be_focused()


def rebuilds(page: Page) -> None:
    """Follows a rebuild to its end."""
    screen(page, OPEN, "generations")
    press(page, "Rebuild")
    press(page, "Rebuild", "dialog")
    expect(text(page, "Rebuild: done")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("heading", name="Generation 3 (serves)")).to_be_visible()
    expect(page.get_by_role("button", name="Rebuild", exact=True)).to_be_enabled()
    expect(page.get_by_role("button", name="Cancel the rebuild")).to_be_disabled()


def is_quiet(page: Page, asked: list[str]) -> None:
    """Nothing is asked for longer than a screen waits between two looks. What is under way may end."""
    page.wait_for_timeout(2000)
    asked.clear()
    page.wait_for_timeout(6000)
    assert not asked, asked


def watches(page: Page) -> None:
    """What a person opens stays open and focused when the numbers change; other screens ask nothing by themselves."""
    screen(page, OPEN, "overview")
    text(page, "Size by section").first.click()
    page.evaluate("document.querySelector('details').marked = true")
    with page.expect_response(lambda answer: answer.url.endswith("/history"), timeout=8000):
        pass
    page.wait_for_timeout(1000)
    assert page.evaluate("(at => at.open && at.marked)(document.querySelector('details'))")
    expect(page.locator("summary").first).to_be_focused()
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    hide = """isHidden => {
      Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    is_quiet(page, asked)
    page.evaluate(hide, False)
    for name in [*SCREENS, "generations"]:
        page.goto(f"{OPEN}/#/{name}")
    is_quiet(page, asked)


def draws(page: Page) -> None:
    """Draws the map with the last search, colors and zooms it, and opens a candidate."""
    screen(page, OPEN, "try")
    search(page)
    page.get_by_role("link", name="Map").click()
    expect(page.get_by_role("status").filter(has_text="1 query, 20 candidates are marked")).to_be_visible()
    page.get_by_label("Color by").select_option("topic")
    expect(page.locator(".legend li").first).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="are marked")).to_be_visible()
    canvas = page.get_by_label("Map of the catalog")
    whole = canvas.evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name="Zoom in").click()
    near = canvas.evaluate("canvas => canvas.toDataURL()")
    canvas.press("ArrowLeft")
    aside = canvas.evaluate("canvas => canvas.toDataURL()")
    assert len({whole, near, aside}) == 3
    press(page, "Reset view")
    assert canvas.evaluate("canvas => canvas.toDataURL()") == whole
    page.get_by_label("Map of the catalog").hover()
    text(page, "What is marked").click()
    page.get_by_role("link", name=re.compile("^candidate")).first.click()
    expect(text(page, "State: found")).to_be_visible()


def races(page: Page) -> None:
    """A slow answer to an earlier question does not take the place of the answer to a later one."""

    def slowly(route: Route) -> None:
        if "topic" in route.request.post_data:
            page.wait_for_timeout(1500)
        route.continue_()

    screen(page, OPEN, "map")
    page.route("**:map", slowly)
    page.get_by_label("Color by").select_option("topic")
    page.get_by_label("Color by").select_option("region")
    legend = page.locator(".legend li").filter(has_text=re.compile("^US$"))
    expect(legend).to_be_visible()
    page.wait_for_timeout(2000)
    expect(legend).to_be_visible()
    page.unroute("**:map")


def warns(page: Page) -> None:
    """A refused generation is activated only after its reasons were shown. The question ends with its screen."""

    def refused(route: Route) -> None:
        answer = route.fetch().json()
        answer["generations"][0]["gate"] = {
            "generation": "1",
            "problems": ["recall 0.5, expected 0.9"],
            "reasons": ["recall"],
        }
        route.fulfill(json=answer)

    page.route("**/generations", refused)
    screen(page, OPEN, "generations")
    page.get_by_role("button", name=re.compile(r"^Activate \d+ despite the gate$")).click()
    expect(page.get_by_role("button", name=re.compile(r"^Activate \d+$"))).to_have_count(0)
    expect(page.locator("dialog")).to_contain_text("recall 0.5, expected 0.9")
    page.go_back()
    expect(page.locator("dialog")).to_have_count(0)
    page.unroute("**/generations")


def offered(page: Page) -> list[str]:
    expect(page.locator("nav a").first).to_be_visible()
    return page.locator("nav a").all_inner_texts()


def refuses(browser: Browser) -> None:
    """Without a key nothing is shown. With one, what its role is for."""
    with opened(browser, LOCKED) as page:
        page.goto(LOCKED)
        expect(page.get_by_role("alert")).to_contain_text("enter a key")
        page.get_by_role("button", name="Key").click()
        page.get_by_label("Key or token").fill(READ_KEY)
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Try it")
        assert offered(page) == ["Try it", "Map", "Catalog"]
        expect(page.get_by_label("From")).to_have_value("video")
        page.goto(f"{LOCKED}/#/generations")
        expect(page.get_by_role("alert")).to_contain_text("role admin")
        page.get_by_role("button", name="Key").click()
        page.get_by_label("Key or token").fill(ADMIN_KEY)
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("link", name="Overview")).to_be_visible()
        assert offered(page) == ["Overview", "Generations", "Catalog"]
        page.goto(f"{LOCKED}/#/overview?index=nothing")
        expect(page.get_by_role("alert")).to_contain_text("There is no index nothing")
    with opened(browser, LOCKED, READ_KEY) as page:
        reads(page, LOCKED)
    with opened(browser, LOCKED, ADMIN_KEY) as page:
        page.goto(LOCKED)
        assert offered(page) == ["Overview", "Generations", "Catalog"]
        expect(page.get_by_role("heading", name="videos", exact=True)).to_be_visible()
        page.goto(f"{LOCKED}/#/try")
        expect(page.get_by_role("alert")).to_contain_text("role read")


def reads(page: Page, base: str) -> None:
    """A key that may read searches, copies the request, and takes nothing down."""
    screen(page, base, "try")
    page.get_by_label("From").select_option("vector")
    page.get_by_label(re.compile("numbers$")).fill(" ".join(["1"] * 16))
    search(page)
    copied(page, READ_KEY)
    page.locator("article p a").first.click()
    expect(text(page, "State: found")).to_be_visible()
    expect(text(page, "Changes need the role admin")).to_be_visible()
    press(page, "Take down")
    press(page, "Take down", "dialog")
    expect(page.get_by_role("alert")).to_contain_text("role")


def takes_down_only(browser: Browser) -> None:
    """A key that may only take down does so for a typed id of a typed index. A reader sees that the video is gone."""
    with opened(browser, LOCKED, READ_KEY) as reader, opened(browser, LOCKED, TAKEDOWN_KEY) as page:
        reads(reader, LOCKED)
        video = reader.get_by_label("Id of a video").input_value()
        page.goto(LOCKED)
        assert offered(page) == ["Catalog"]
        page.get_by_role("textbox", name="Index").fill("videos")
        page.get_by_role("textbox", name="Index").press("Enter")
        for name, state in (("Take down", "taken down"), ("Restore", "found")):
            expect(page.get_by_role("button", name=name)).to_be_visible()
            page.get_by_label("Id of a video").fill(video)
            press(page, name)
            press(page, name, "dialog")
            expect(text(page, f"{name}: done for video {video}.")).to_be_visible()
            reader.goto(f"{LOCKED}/#/catalog?id={video}")
            reader.reload()
            expect(text(reader, f"State: {state}")).to_be_visible()


def splits(browser: Browser) -> None:
    """With two addresses, each has the screens of its methods."""
    with opened(browser, SPLIT, READ_KEY) as page:
        page.goto(SPLIT)
        assert offered(page) == ["Try it", "Map", "Catalog"]
        page.goto(f"{SPLIT}/#/overview")
        expect(page.get_by_role("alert")).to_contain_text("another address")
    with opened(browser, SPLIT_ADMIN, ADMIN_KEY) as page:
        page.goto(SPLIT_ADMIN)
        assert offered(page) == ["Overview", "Generations"]
        expect(page.get_by_role("heading", name="videos", exact=True)).to_be_visible()


def has_texts(browser: Browser) -> None:
    """Ids that are text, with spaces and commas, are one per line. Values with quotes are completed as filters need."""
    with opened(browser, TEXT) as page:
        screen(page, TEXT, "try")
        page.get_by_label("From").select_option("video")
        page.get_by_label("Ids of videos").fill("clip 7, part 1\nclip 8, part 2")
        page.get_by_label("Exclude", exact=True).fill("clip 9, part 0")
        area = page.get_by_label("Filter, such as")
        area.press_sequentially("region = d")
        page.get_by_role("option", name=re.compile('^D"E')).click()
        assert area.input_value() == 'region = "D\\"E"', area.input_value()
        search(page)
        copied(page)
        first = ids(page)[0]
        assert re.fullmatch(r"clip \d+, part \d", first), first
        page.get_by_role("link", name="Map").click()
        expect(page.get_by_role("status").filter(has_text="2 seeds, 20 candidates are marked")).to_be_visible()
        page.go_back()
        press(page, f"Why {first}")
        expect(text(page, "is candidate 1.")).to_be_visible()
        page.get_by_role("link", name=first, exact=True).click()
        expect(text(page, "State: found")).to_be_visible()
        press(page, "Take down")
        press(page, "Take down", "dialog")
        expect(text(page, "State: taken down")).to_be_visible()
        expect(page.get_by_role("cell", name="Takedown", exact=True)).to_be_visible()


def comes_back(browser: Browser) -> None:
    """A server that cannot be reached is asked again until it answers."""
    with opened(browser, OPEN) as page:
        page.add_init_script("""if (!sessionStorage.away) {
          sessionStorage.away = "1";
          const ask = window.fetch;
          window.fetch = () => Promise.reject(new TypeError("away"));
          setTimeout(() => { window.fetch = ask; }, 2000);
        }""")
        page.goto(OPEN)
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        expect(page.get_by_role("heading", name="videos", exact=True)).to_be_visible(timeout=8000)


def opens_all(page: Page, name: str) -> None:
    """Opens everything of a screen that can be opened: details, a copy, an explanation, a comparison, a video."""
    if name == "try":
        search(page)
        text(page, "Copy the request").click()
        press(page, "curl")
        press(page, f"Why {ids(page)[0]}")
        expect(text(page, "is candidate 1.")).to_be_visible()
        page.get_by_label("Caps").fill("nothing at all")
        page.get_by_label("Filter, such as").fill("re")
    if name == "generations":
        text(page, "Compare two").click()
        press(page, "Compare answers")
        expect(text(page, "Overlap")).not_to_have_count(0)
    if name == "catalog":
        page.goto(f"{page.url}&id={page.evaluate(FIRST)}")
        expect(text(page, "State: found")).to_be_visible()
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")


FIRST = """fetch("/v1/indexes/videos:map", {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ points: 10 }),
}).then(answer => answer.json()).then(map => map.videoIds[0])"""


def fits(page: Page, what: str, width: int) -> None:
    """Nothing is wider than the screen, nothing lies on something else, and axe has no complaint."""
    found = page.evaluate("document.documentElement.scrollWidth")
    assert found <= width, f"{what}: {found} px wide"
    overlaps = page.evaluate(OVERLAPS)
    assert not overlaps, f"{what}: {overlaps}"
    page.add_script_tag(path=AXE)
    # HTML does not provide for comboboxes of several lines, such as the one for filters.
    rules = "{ rules: { 'aria-allowed-role': { enabled: false } } }"
    violations = page.evaluate(f"axe.run({rules}).then(found => found.violations)")
    wrong = [(of["id"], of["nodes"][0]["html"]) for of in violations]
    assert not wrong, f"{what}: {wrong}"


def looks(browser: Browser) -> None:
    """Every screen, light and dark, on a phone and on a wide screen, as it opens and with everything opened."""
    for scheme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            view = {"width": width, "height": height}
            with opened(browser, OPEN, viewport=view, color_scheme=scheme, bypass_csp=True) as page:
                for name in SCREENS:
                    what = f"{name}-{scheme}-{size}"
                    screen(page, OPEN, name)
                    if name == "try":
                        search(page)
                    fits(page, what, width)
                    page.screenshot(path=f"{PICTURES}/{what}.png")
                    opens_all(page, name)
                    fits(page, f"{what}, opened", width)
                    if name == "generations":
                        press(page, "Rebuild")
                        fits(page, f"{what}, a dialog", width)
                        page.keyboard.press("Escape")


def main() -> None:
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    paint = "performance.getEntriesByType('paint').find(of => of.name == 'first-contentful-paint')?.startTime"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with opened(browser, OPEN) as page:
            answer = page.goto(OPEN)
            assert answer.headers["content-security-policy"].startswith(POLICY)
            for name in SCREENS:
                screen(page, OPEN, name)
            print(f"first contentful paint: {page.evaluate(paint):.0f} ms")
            takes_down(page, tries(page))
            keeps_the_form(page)
            activates(page)
            rebuilds(page)
            draws(page)
            races(page)
            warns(page)
            watches(page)
        refuses(browser)
        takes_down_only(browser)
        splits(browser)
        has_texts(browser)
        comes_back(browser)
        looks(browser)
        browser.close()
    print("the page works")


main()
