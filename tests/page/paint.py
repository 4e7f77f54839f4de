"""Measures how soon the web page of a server shows something, and how soon it shows the indexes: paint.py ADDRESS

Needs what `.ci/page` installs: target/page/venv/bin/python tests/page/paint.py http://127.0.0.1:50051
"""

import sys

from playwright.sync_api import sync_playwright

FIRST = "performance.getEntriesByType('paint').find(of => of.name == 'first-contentful-paint').startTime"


def main() -> None:
    [address] = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for _ in range(5):
            # A context of its own has no cache.
            page = browser.new_context().new_page()
            page.goto(address)
            page.get_by_role("heading", level=2).first.wait_for()
            indexes = page.evaluate("performance.now()")
            print(f"first contentful paint {page.evaluate(FIRST):.0f} ms, indexes {indexes:.0f} ms")
        browser.close()


main()
