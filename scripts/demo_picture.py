"""The picture of the README: `python -m scripts.demo_picture deni_demo.html docs/images/demo.png`."""

import sys
from pathlib import Path

WIDTH, HEIGHT = 900, 760


def main(page: str, output: str) -> None:
    """Draw the upper part of a page as a PNG file."""
    from playwright.sync_api import sync_playwright

    chromium = Path("/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium if chromium.exists() else None)
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(Path(page).resolve().as_uri())
        tab.screenshot(path=output)
        for width, scheme in ((390, "dark"), (1280, "light")) if len(sys.argv) > 3 else ():
            tab.set_viewport_size({"width": width, "height": HEIGHT})
            tab.emulate_media(color_scheme=scheme)
            tab.screenshot(path=f"{sys.argv[3]}-{width}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
