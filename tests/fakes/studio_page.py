"""What a user does on the studio's page, in Playwright."""

from __future__ import annotations


def picture(page) -> str:
    """The viewport's pixels as a data URL, once it stands still at full size.

    A busy machine may still be painting what was asked for earlier, so that it is given time.
    """
    page.wait_for_function(
        """async () => {
            const canvas = document.querySelector("#dg-viewport canvas");
            const drawn = canvas.dataset.drawn;
            await new Promise((resolve) => setTimeout(resolve, 800));
            return canvas.dataset.drawn === drawn && Number(canvas.dataset.size) >= 384;
        }"""
    )
    return page.evaluate("document.querySelector('#dg-viewport canvas').toDataURL()")


def set_slider(page, name: str, value: float) -> None:
    page.locator(f"#dg-{name}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value
    )


def slider(page, name: str) -> float:
    return float(page.locator(f"#dg-{name}").input_value())


def upload(page, path) -> None:
    page.locator("#dg-audio input[type=file]").set_input_files(str(path))
    page.wait_for_selector("#dg-audio [data-testid=file-upload]", state="detached")


def generate(page) -> None:
    page.click("#dg-generate")
