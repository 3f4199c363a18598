"""Make the two pictures of the report in the README: ``python tests/support/report_picture.py docs``.

The top of the report of the example VM, with the marker of the map on what the guest trimmed; and what it trimmed and deleted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "examples"))

import make_vm
from browser import Opened, chromium

from dissect_sesparse import cli

WIDTH = 1240


def take(out: Path) -> None:
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        os.chdir(folder)  # so that the page names the VM as the README does
        make_vm.make_vm(Path("vm"))
        assert cli.main(["report", "vm/web01.vmx", "-o", "report.html"]) == 0
        opened = Opened(browser, Path("report.html"), viewport={"width": WIDTH, "height": 900})
        opened.page.locator("#map-0 [data-do=next]").click()
        opened.page.mouse.move(0, 0)
        opened.page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
        legend = opened.page.locator("#map-0 .legend").bounding_box()
        assert legend is not None
        height = int(legend["y"] + legend["height"] + 24)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        opened.page.screenshot(path=out / "report.png", full_page=True, clip=clip)  # type: ignore[arg-type]
        first, last = (opened.page.locator(name).bounding_box() for name in ("#trimmed", "#files"))
        assert first is not None
        assert last is not None
        clip |= {"y": first["y"], "height": last["y"] + last["height"] - first["y"]}
        opened.page.screenshot(path=out / "report-files.png", full_page=True, clip=clip)  # type: ignore[arg-type]
        opened.check()


if __name__ == "__main__":
    take(Path(sys.argv[1]).absolute())
