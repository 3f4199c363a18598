"""``dissect-sesparse report``: what it tells against the records, and the page in a browser."""

from __future__ import annotations

import errno
import os
import random
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import make_vm
import pytest
from browser import Opened, chromium
from history import random_history
from sesparse_builder import ExtentBuilder, descriptor, grain_data, vmsd, vmx
from target_fixtures import NEWEST, add_delta, example_vm, small_chain, snapshot_of, two_disks  # noqa: F401

from dissect_sesparse import cli, open_chain
from dissect_sesparse.chain.map import label
from dissect_sesparse.chain.summary import summaries
from dissect_sesparse.commands import report as command
from dissect_sesparse.files.deleted import DeletedFile, Piece
from dissect_sesparse.files.story import Naming
from dissect_sesparse.findings.findings import Finding, findings
from dissect_sesparse.recovery.recover import Source
from dissect_sesparse.recovery.sparse_file import RecoverError
from dissect_sesparse.report.content import report
from dissect_sesparse.report.model import FoundRow, Listed, Report
from dissect_sesparse.report.render import MAX_PAGE, percent, render
from dissect_sesparse.report.shown import clipped, moment, shown, size
from dissect_sesparse.trimmed.unmapped import STATES, unmapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=hostile=1>\u202egnp"
"""A name of a file."""
HOSTILE_TEXT = "</script><script>hostile=1</script>{{ 7*7 }}<!--<script>"
"""A name of a snapshot."""
HOSTILE_TYPE = "<b onclick=hostile=1>"


def reported(path: Path, **options: object) -> Report:
    with open_chain(path) as chain:
        return report([Source(chain)], target=path.name, **options)  # type: ignore[arg-type]


# What it tells


@pytest.mark.parametrize("seed", range(3))
def test_it_tells_what_the_records_tell(tmp_path: Path, seed: int) -> None:
    recorded = random_history(tmp_path / "vm", random.Random(9000 + seed), seed + 1)
    before = snapshot_of(tmp_path / "vm")
    made = reported(recorded.path)
    assert snapshot_of(tmp_path / "vm") == before
    (disk,) = made.disks
    with open_chain(recorded.path) as chain:
        runs = list(unmapped(chain))
        told = list(findings(chain))
        sums = [(s.allocated, s.unmapped, s.zero, s.state) for s in summaries(chain)]
        map_sizes = dict.fromkeys(disk.strip.sizes, 0)
        for run in chain.runs():
            map_sizes[label(run)] += run.length
    assert [row.run.offset for row in made.unmapped.rows] == [
        run.offset for run in sorted(runs, key=lambda run: run.size, reverse=True)
    ]
    by_place = {(run.link.depth, run.offset): run for run in runs}
    for row in made.unmapped.rows:
        run = by_place[row.run.link.depth, row.run.offset]
        assert (row.run.state, row.run.parent_state, row.content) == (run.state, run.parent_state, run.content)
    assert made.unmapped.total == len(runs)
    assert disk.unmapped == {
        state: (sum(run.state == state for run in runs), sum(run.size for run in runs if run.state == state))
        for state in STATES
    }
    assert disk.never_mapped == 4096 * sum(link.never_mapped() for link in recorded.links)
    assert sorted(row.finding.message for row in made.findings.rows) == sorted(finding.message for finding in told)
    assert made.findings.total == sum(disk.levels.values()) == len(told)
    assert disk.strip.sizes == map_sizes
    for link, told_sizes in zip(disk.links, sums):
        states = link.strip.sizes
        mine = (states["allocated"] + states["base"], states["unmapped"], states["zero"], link.state)
        assert mine == told_sizes


def test_inputs_are_all_files_with_their_digests(example_vm: Path) -> None:  # noqa: F811
    import hashlib

    folder = example_vm.parent
    with open_chain(folder / NEWEST) as chain:
        made = report([Source(chain)], files=[example_vm])
    wanted = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in (".vmdk", ".vmx")
    }
    assert {row.file.path.name: row.file.sha256 for row in made.inputs} == wanted  # type: ignore[union-attr]


def test_without_hashes(example_vm: Path) -> None:  # noqa: F811
    made = reported(example_vm.parent / NEWEST, hashes=False)
    assert all(row.file.sha256 is None and row.problem for row in made.inputs)
    assert [row.content for row in made.unmapped.rows] == [None, None]
    assert "not hashed (--no-hash)" in render(made).decode()


@pytest.mark.slow
def test_deleted_files_by_name(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    out = tmp_path / "report.html"
    assert cli.main(["report", str(example_vm), "-o", str(out), "--no-hash"]) == 0
    text = out.read_text("utf-8")
    for path, digest in make_vm.DELETED.items():
        (row,) = (row for row in re.findall(r"<tr>.*?</tr>", text) if f">{path}</bdi>" in row)
        assert digest in row
        assert f"<td>{'likely' if path in make_vm.LIKELY else 'complete'}</td>" in row
        assert ("nothing tells by whom last" in row) == (path in make_vm.LIKELY)
    assert not any(f">{path}</bdi>" in text for path in make_vm.LIVE)
    assert cli.main(["report", str(example_vm), "-o", str(out), "--no-hash", "--no-files", "--force"]) == 0
    text = out.read_text("utf-8")
    assert "exfil.zip" not in text
    assert "Not looked for: <code>--no-files</code>" in text


def test_deleted_files_are_counted_cut_and_harmless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissect_sesparse.report import content as module

    monkeypatch.setattr(module, "MAX_ROWS", 3)

    def files(warn: Callable[[str], None]) -> Iterator[DeletedFile]:
        warn(f"volume 1: {HOSTILE_TEXT}")
        for number, left in enumerate((5, 10, 0, 7)):
            data = b"x" * left
            yield DeletedFile(
                link,
                "volume 1",
                f"{HOSTILE}/{number}",
                10,
                None,
                None,
                None,
                "ntfs",
                Naming("mft", "likely", "its record"),
                "a proof",
                lambda data=data: iter([Piece(0, data, True)] if data else ()),
            )
        raise RecoverError("a bad sector")

    with open_chain(small_chain(folder).write()) as chain:
        link = chain.links[0]
        made = report([Source(chain, files=files)], hashes=False)
    (disk,) = made.disks
    assert disk.files == {"complete": 1, "likely": 0, "partial": 2, "none": 1}
    assert [row.recovered.size for row in made.files.rows] == [10, 7, 5]
    assert made.files.total == 4
    assert disk.problems == ("The list of deleted files is not complete: a bad sector",)
    text = render(made).decode()
    assert "The 3 of 4 of which most is left" in text
    assert "&lt;img src=x onerror=hostile=1&gt;⟨U+202E⟩gnp/1</bdi>" in text
    assert "volume 1: &lt;/script&gt;" in text
    assert "<img" not in text


def test_times_are_those_of_the_snapshots(example_vm: Path) -> None:  # noqa: F811
    links = reported(example_vm.parent / NEWEST, hashes=False).disks[0].links
    first, second = (moment for _, _, moment in make_vm.SNAPSHOTS)
    assert [(link.snapshot, link.after, link.before) for link in links] == [
        (None, second, None), ("after patch", first, second), ("before patch", None, first),
    ]  # fmt: skip


def test_gravest_findings_and_largest_runs_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissect_sesparse.report import content as module

    chain = small_chain(folder)
    extent = chain.links[1].extent
    for number, length in enumerate((1, 4, 2, 4, 3)):
        for grain in range(100 * number + 20, 100 * number + 20 + length):
            extent.unmap(grain, grain_data("old", grain))
    extent.set_entry(4000, 0x4 << 60)
    extent.set_dirty()
    path = chain.write()
    every = reported(path, hashes=False)
    assert [row.run.size // 4096 for row in every.unmapped.rows] == [4, 4, 3, 2, 1]
    assert [row.run.offset // 4096 for row in every.unmapped.rows] == [120, 320, 420, 220, 20]
    levels = [row.finding.level for row in every.findings.rows]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
    assert {"error", "warning"} <= set(levels)
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    cut = reported(path, hashes=False)
    assert [row.run.offset // 4096 for row in cut.unmapped.rows] == [120, 320]
    assert (cut.unmapped.total, cut.disks[0].unmapped) == (5, every.disks[0].unmapped)
    assert "The 2 largest of 5" in render(cut).decode()


def test_what_cannot_be_read_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissect_sesparse.report import content as module

    def broken(*args: object, **kwargs: object) -> Iterator[object]:
        raise RecoverError("a bad sector")
        yield

    path = small_chain(folder).write()
    monkeypatch.setattr(module, "unmapped", broken)
    monkeypatch.setattr(module, "findings", broken)
    made = reported(path)
    assert not made.complete
    assert len(made.disks[0].problems) == 2
    text = render(made).decode()
    assert "Not all is told about" in text
    assert text.count("is not complete: a bad sector") == 2


def test_an_input_that_cannot_be_hashed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dissect_sesparse.report import content as module

    def broken(*args: object) -> object:
        raise RecoverError("a bad sector")

    monkeypatch.setattr(module, "hashed", broken)
    made = reported(small_chain(folder).write())
    assert {row.problem for row in made.inputs} == {"a bad sector"}


def test_a_change_meanwhile_is_an_error(folder: Path) -> None:
    path = small_chain(folder).write()

    def meddle(done: int, total: int) -> None:
        with (folder / "vm-flat.vmdk").open("ab") as fh:
            fh.write(b"more")

    with pytest.raises(Exception, match=r"changed while it was read.*vm-flat"):
        reported(path, progress=meddle)


# The command


@pytest.mark.slow
def test_command(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    before = snapshot_of(example_vm.parent)
    out = tmp_path / "report.html"
    assert cli.main(["report", str(example_vm), "-o", str(out)]) == 0
    assert snapshot_of(example_vm.parent) == before
    told = capsys.readouterr()
    assert "3 links, 143360 bytes trimmed by the guest" in told.out
    assert told.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = out.read_text("utf-8")
    for part in ("after patch", "2024-03-14 21:30:00 UTC", "b2d67fe892e3b6adaf5dc7d3ff3111ed", "web01.vmsd"):
        assert part in text
    # A second time it is refused, and nothing is changed, unless that is asked for.
    written = out.stat().st_mtime_ns
    assert cli.main(["report", str(example_vm), "-o", str(out)]) == 1
    assert "--force" in capsys.readouterr().err
    assert out.stat().st_mtime_ns == written
    assert cli.main(["report", str(example_vm), "-o", str(out), "--force", "--no-hash"]) == 0
    assert "b2d67fe892e3b6adaf5dc7d3ff3111ed" not in out.read_text("utf-8")


def test_never_into_the_evidence(example_vm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    before = snapshot_of(example_vm.parent)
    below = example_vm.parent / "report.html"
    assert cli.main(["report", str(example_vm), "-o", str(below)]) == 1
    assert "holds evidence" in capsys.readouterr().err
    assert cli.main(["report", str(example_vm), "-o", str(example_vm), "--force"]) == 1
    assert "holds evidence" in capsys.readouterr().err
    assert snapshot_of(example_vm.parent) == before


@pytest.mark.parametrize("where", ["no/such/report.html", "."])
def test_nowhere_to_write(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    assert cli.main(["report", str(example_vm), "-o", str(tmp_path / where)]) == 1
    assert "folder" in capsys.readouterr().err


@pytest.mark.slow
def test_no_link_is_followed(
    example_vm: Path,  # noqa: F811
    tmp_path: Path,
    symlink: Callable[[Path, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot_of(example_vm.parent)
    symlink(tmp_path / "report.html", example_vm)  # refused for what it leads to
    assert cli.main(["report", str(example_vm), "-o", str(tmp_path / "report.html"), "--force"]) == 1
    assert "which holds evidence" in capsys.readouterr().err
    (tmp_path / "report.html").unlink()
    symlink(tmp_path / "report.html", tmp_path / "elsewhere.html")
    assert cli.main(["report", str(example_vm), "-o", str(tmp_path / "report.html"), "--force"]) == 1
    assert "symbolic link" in capsys.readouterr().err
    assert snapshot_of(example_vm.parent) == before


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, what was there stays and nothing half is left."""
    out = tmp_path / "report.html"
    out.write_bytes(b"an older one")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecoverError, match="no room left"):
        command._write(out, b"x" * 100)
    assert out.read_bytes() == b"an older one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_broken_disk_does_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extent = ExtentBuilder(make_vm.CAPACITY_SECTORS)
    both = two_disks(tmp_path / "vm", extent, SESPARSE="VSANSPARSE")
    out = tmp_path / "report.html"
    assert cli.main(["report", str(both), "-o", str(out), "--no-hash"]) == 1
    assert "a-bad.vmdk: failed: " in capsys.readouterr().out
    text = out.read_text("utf-8")
    assert "Disks that are not reported on" in text
    assert "VSANSPARSE" in text
    assert NEWEST in text


def test_no_disk_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "disk.vmdk").write_bytes(bytes(1 << 20))
    assert cli.main(["report", str(tmp_path / "vm" / "disk.vmdk"), "-o", str(tmp_path / "report.html")]) == 1
    assert "dissect-sesparse report: " in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


# Text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("web01.vmdk", "web01.vmdk"),
        ("客户 é", "客户 é"),
        ("a\u202egnp.exe", "a⟨U+202E⟩gnp.exe"),
        ("a\x00b\nc\u2066\u200b\ufeff", "a⟨U+0000⟩b⟨U+000A⟩c⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("\udcff\U000e0041\u2028", "⟨U+DCFF⟩⟨U+E0041⟩⟨U+2028⟩"),
    ],
)
def test_shown(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert shown(seen) == seen


def test_text_for_people() -> None:
    assert [size(n) for n in (None, 0, 1, 1023, 1024, 65536, 1 << 20, (1 << 20) - 1, 62 << 40)] == [
        "", "0 bytes", "1 byte", "1023 bytes", "1 KiB", "64 KiB", "1 MiB", "1 MiB", "62 TiB",
    ]  # fmt: skip
    assert clipped("x" * 50 + ".vmdk", 20).endswith(".vmdk")
    assert len(clipped("\u202e" * 500, 20)) == 20
    assert [percent(*n) for n in ((0, 5), (5, 5), (1, 10**9), (10**9 - 1, 10**9), (1, 4), (0, 0))] == [
        "0 %", "100 %", "< 0.1 %", "> 99.9 %", "25.0 %", "0 %",
    ]  # fmt: skip
    assert moment(datetime(2024, 3, 14, 21, 30, 0, 90_114, tzinfo=timezone.utc)) == "2024-03-14 21:30:00 UTC"


@pytest.mark.slow
def test_a_page_is_never_too_large(example_vm: Path) -> None:  # noqa: F811
    """Whatever the evidence says: then fewer rows are shown, and that is said."""
    made = reported(example_vm.parent / NEWEST, hashes=False)
    finding = Finding("unreadable", "error", "<" * 5000, 0)
    rows = tuple(FoundRow("<" * 300, "<" * 300, finding) for _ in range(2000))
    page = render(replace(made, findings=Listed(rows, 123_456)))
    assert len(page) < MAX_PAGE
    told = re.search(r"The first ([\d,]+) of 123,456", page.decode())
    assert told is not None
    assert 10 < int(told[1].replace(",", "")) < 2000


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def example_page(example_vm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert cli.main(["report", str(example_vm), "-o", str(out)]) == 0
    return out


@pytest.fixture
def example(browser: Browser, example_page: Path) -> Iterator[Opened]:
    opened = Opened(browser, example_page)
    yield opened
    opened.check()
    opened.context.close()


def view(page: Page) -> tuple[int, int]:
    """What of the disk the map shows."""
    plot = page.locator("#map-0 .plot")
    return int(plot.get_attribute("data-from") or -1), int(plot.get_attribute("data-to") or -1)


def marked(page: Page) -> tuple[int, str]:
    """The address that the map's marker is at, and what is told of it."""
    address, _, told = page.locator("#map-0 .where").inner_text().partition(": ")
    return int(address, 16), told


def hover(page: Page, part: float) -> None:
    box = page.locator("#map-0 .strip.whole svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)


@pytest.mark.slow
def test_page_renders(example: Opened) -> None:
    page = example.page
    assert page.title() == f"Snapshot disks of {clipped(page.locator('h1').inner_text(), 100)}"
    assert page.locator("html").get_attribute("lang") == "en"
    assert "default-src 'none'" in (page.locator("meta[http-equiv]").get_attribute("content") or "")
    chain = page.locator("figure.chain svg").text_content() or ""
    for part in ("web01-000002.vmdk", "“after patch”", "2024-03-11 20:00:00 UTC", "CID c4418e23"):
        assert part in chain
    drawn = {
        (strip, state): bool(page.locator(f"#map-0 [data-strip='{strip}'] path.state-{state}").get_attribute("d"))
        for strip in range(4)
        for state in ("allocated", "base", "unmapped", "zero", "invalid")
    }
    assert {what for what, there in drawn.items() if there} == {
        (0, "allocated"), (0, "base"), (0, "unmapped"), (1, "allocated"), (1, "unmapped"), (2, "allocated"),
        (2, "unmapped"), (3, "base"),
    }  # fmt: skip
    fill = page.locator("#map-0 path.state-unmapped").first.evaluate("e => getComputedStyle(e).fill")
    assert "#fill-unmapped" in fill, "the style is allowed, and patterns are in it"


@pytest.mark.slow
def test_map_tells_what_is_under_the_pointer(example: Opened, example_vm: Path) -> None:  # noqa: F811
    with open_chain(example_vm.parent / NEWEST) as chain:
        runs = list(chain.runs())
    page, found = example.page, set()
    page.locator("#map-0").scroll_into_view_if_needed()
    for part in (0.001, 0.02, 0.3, 0.5395, 0.541, 0.5425, 0.545, 0.9, 0.999):
        hover(page, part)
        address, told = marked(page)
        (run,) = (run for run in runs if run.start <= address < run.end)
        assert told.split(":")[1].split(",")[0].strip() == label(run)
        found.add(label(run))
        assert page.locator("#map-0 .strip.whole .here").inner_text().startswith(label(run))
    assert {"base", "unmapped"} <= found


@pytest.mark.slow
def test_map_zooms(example: Opened) -> None:
    page, size = example.page, make_vm.CAPACITY_SECTORS * 512
    plot = page.locator("#map-0 .plot")
    assert view(page) == (0, size)
    assert page.get_by_role("button", name="Zoom out").is_disabled()
    page.get_by_role("button", name="Zoom in").click()
    start, end = view(page)
    assert end - start == size // 2
    page.get_by_role("button", name="Whole disk").click()
    assert view(page) == (0, size)
    # The wheel scrolls the page until the map has the focus.
    plot.scroll_into_view_if_needed()
    hover(page, 0.25)
    page.mouse.wheel(0, 10)
    assert view(page) == (0, size)
    plot.focus()
    hover(page, 0.25)
    page.mouse.wheel(0, -100)
    page.wait_for_function("document.querySelector('#map-0 .plot').dataset.from > 0")
    start, end = view(page)
    assert 0 < start < size * 0.25 < end < size
    assert (size * 0.25 - start) / (end - start) == pytest.approx(0.25, abs=0.01), "what is under the pointer stays"
    for key, check in (
        ("+", lambda a, b: b[1] - b[0] == pytest.approx((a[1] - a[0]) / 2, abs=4)),
        ("Shift+ArrowRight", lambda a, b: b[0] > a[0]),
        ("Shift+ArrowLeft", lambda a, b: b[0] < a[0]),
        ("-", lambda a, b: b[1] - b[0] == pytest.approx((a[1] - a[0]) * 2, abs=4)),
        ("0", lambda a, b: b == (0, size)),
    ):
        before = view(page)
        page.keyboard.press(key)
        assert check(before, view(page)), key
    for _ in range(30):
        page.keyboard.press("+")
    start, end = view(page)
    assert end - start == 65536, "not for ever"


@pytest.mark.slow
def test_map_by_keyboard(example: Opened, example_vm: Path) -> None:  # noqa: F811
    """From trimmed range to trimmed range, and back."""
    page = example.page
    with open_chain(example_vm.parent / NEWEST) as chain:
        wanted = {run.start for link in chain.links for placed in link.extents for run in placed.extent.runs()
                  if run.state.name == "UNMAPPED"}  # fmt: skip
    page.locator("#map-0 .plot").focus()
    page.keyboard.press("Home")
    assert marked(page)[0] == 0
    visited = []
    for _ in range(10):
        page.keyboard.press("n")
        text = page.locator("#map-0 .where").inner_text()
        if text.startswith("No trimmed range"):
            break
        visited.append(marked(page)[0])
        assert view(page)[0] <= visited[-1] < view(page)[1]
        assert "unmapped" in " ".join(page.locator("#map-0 .here").all_inner_texts())
    assert visited == sorted(visited)
    assert set(visited) <= wanted
    assert visited[0] == min(wanted)
    page.keyboard.press("p")
    assert marked(page)[0] == visited[-2]
    page.keyboard.press("ArrowRight")
    assert marked(page)[0] > visited[-2]


@pytest.mark.slow
def test_a_run_is_shown_in_the_map(example: Opened) -> None:
    page = example.page
    page.locator("#table-unmapped a").first.click()
    assert marked(page)[0] == 0x230E000
    start, end = view(page)
    assert start < 0x230E000 < end < start + (1 << 20)
    assert page.evaluate("document.activeElement.className") == "plot"


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#{table} tbody tr:visible > :nth-child({number})").all_inner_texts()


@pytest.mark.slow
def test_tables_sort_and_filter(example: Opened, example_vm: Path) -> None:  # noqa: F811
    page = example.page
    sizes = {path.name: path.stat().st_size for path in example_vm.parent.iterdir()}
    head = page.locator("#table-inputs th").nth(1)
    assert head.get_attribute("aria-sort") == "none"
    for direction, reverse in (("ascending", False), ("descending", True)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        shown_sizes = [sizes[re.split(r"[/\\]", name)[-1]] for name in column(page, "table-inputs", 1)]
        assert shown_sizes == sorted(shown_sizes, reverse=reverse)
        assert len(shown_sizes) == 8
    tools = page.locator(".tools", has=page.locator("[aria-controls=table-inputs]"))
    tools.get_by_role("searchbox").fill("SESPARSE")
    assert {re.split(r"[/\\]", name)[-1] for name in column(page, "table-inputs", 1)} == {
        "web01-000001-sesparse.vmdk", "web01-000002-sesparse.vmdk",
    }  # fmt: skip
    assert tools.locator("output").inner_text() == "2 of 8 rows"
    tools.get_by_role("searchbox").fill("")
    assert tools.locator("output").inner_text() == "8 of 8 rows"
    assert len(column(page, "table-files", 1)) == len(make_vm.DELETED)
    page.locator("#files").get_by_role("searchbox").fill("zip documents")
    assert [re.sub(r"\s", "", name) for name in column(page, "table-files", 1)] == ["Users/admin/Documents/exfil.zip"]
    page.locator("#trimmed").get_by_label("Link", exact=True).select_option("web01-000001.vmdk")
    assert [text.split()[0] for text in column(page, "table-unmapped", 1)] == ["0x2293000"]


@pytest.fixture(scope="module")
def odd_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two disks, one with errors and all states."""
    folder = tmp_path_factory.mktemp("odd")
    extent = ExtentBuilder(make_vm.CAPACITY_SECTORS)
    for grain in range(100, 130, 3):
        extent.set_entry(grain, 0x4 << 60)
    extent.unmap(1000, b"old")
    extent.zero(3000)
    extent.allocate(3300, b"new")
    both = two_disks(folder / "vm", extent)
    (folder / "vm" / "a-bad.vmdk").write_bytes(
        (folder / "vm" / "a-bad.vmdk").read_bytes().replace(b"c4418e23", b"11111111")
    )
    assert cli.main(["report", str(both), "-o", str(folder / "report.html"), "--no-hash", "--no-files"]) == 0
    return folder / "report.html"


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_page_for_everybody(browser: Browser, odd_page: Path, colours: str) -> None:
    """By axe-core, which knows the rules (WCAG): names, roles, headings, contrast and more."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    opened = Opened(browser, odd_page, color_scheme=colours)
    for summary in opened.page.locator("summary").all():
        summary.click()
    assert {"error", "warning"} <= set(opened.page.locator("#table-findings .level").all_inner_texts())
    found = axe.Axe().run(opened.page)
    assert found.violations_count == 0, found.generate_report()
    opened.check()
    opened.context.close()


@pytest.mark.slow
def test_page_by_keyboard_and_on_paper(example: Opened) -> None:
    page = example.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.locator("#map-0 button").first.focus()
    page.keyboard.press("Tab")
    names = []
    for _ in range(30):
        names.append(page.evaluate("document.activeElement.className || document.activeElement.tagName"))
        page.keyboard.press("Tab")
    assert "plot" in names
    assert "SUMMARY" in names
    assert "INPUT" in names
    page.emulate_media(media="print")
    assert not page.locator("#map-0 .controls").is_visible()
    assert not page.locator(".tools").first.is_visible()
    assert page.locator("#map-0 .strip.whole svg").is_visible()
    page.set_viewport_size({"width": 1030, "height": 700})  # A4, landscape
    assert page.evaluate("document.documentElement.scrollWidth") <= 1030, "nothing is cut off at the right"
    assert page.pdf().startswith(b"%PDF")


def test_page_without_scripts(browser: Browser, example_page: Path) -> None:
    opened = Opened(browser, example_page, java_script_enabled=False)
    assert opened.page.get_by_text("Without JavaScript the maps are not drawn").is_visible()
    assert opened.page.locator("#table-unmapped tbody tr").count() == 2
    assert not opened.page.locator("#map-0 .controls").is_visible()
    assert opened.page.locator("figure.chain").is_visible()
    assert opened.asked == [opened.url]
    opened.context.close()


RUNS = 100_000
GRAINS_EACH = 1000


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 62 TiB with a hundred thousand runs, whose files and snapshots have names that mean harm."""
    if os.name == "nt":
        pytest.skip("Windows allows no such names")
    folder = tmp_path_factory.mktemp("hostile") / "\"><svg onload='hostile=1'>"
    folder.mkdir()
    sectors = 62 << 31
    base, delta = ExtentBuilder(sectors), ExtentBuilder(sectors)
    base.allocate(5, grain_data("base", 5))
    base.write(folder / f"{HOSTILE}-sesparse.vmdk")
    text = descriptor([(sectors, "SESPARSE", f"{HOSTILE}-sesparse.vmdk")], cid="12345678", create_type=HOSTILE_TYPE)
    (folder / f"{HOSTILE}.vmdk").write_bytes(text.encode())
    for number in range(RUNS // 2):  # behind each a hole
        grain = number * 2 + number // GRAINS_EACH * 300_000_000
        if number % 2:
            delta.unmap(grain, b"hostile %d" % number)
        else:
            delta.allocate(grain)
    delta.unmap(RUNS * 10_000, b"one of two")
    delta.unmap(RUNS * 10_000 + 1, b"two of two")
    path = add_delta(folder, f"{HOSTILE}-1", delta, folder / f"{HOSTILE}.vmdk", "12345678", "12345679")
    when = datetime(2024, 3, 11, 20, 0, 0, tzinfo=timezone.utc)
    listed = {"uid": 1, "display_name": HOSTILE_TEXT, "created": when, "disks": [f"{HOSTILE}.vmdk"]}
    (folder / "vm.vmsd").write_bytes(vmsd([listed]).encode())
    (folder / "vm.vmx").write_bytes(vmx([path.name], HOSTILE_TEXT).encode())
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert cli.main(["report", str(folder / "vm.vmx"), "-o", str(out), "--no-hash"]) == 1, (
        "no volume of it can be opened, which the page says"
    )
    return out


@pytest.mark.slow
def test_hostile_names_and_many_runs(browser: Browser, hostile_page: Path) -> None:
    assert hostile_page.stat().st_size < MAX_PAGE
    assert "\u202e" not in hostile_page.read_text("utf-8")
    opened = Opened(browser, hostile_page)
    page = opened.page
    assert page.evaluate("typeof hostile") == "undefined"
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, embed, b[onclick], svg[onload], form, base, link").count() == 0
    handlers = "[...document.querySelectorAll('*')].flatMap((e) => e.getAttributeNames()).filter((n) => /^on/i.test(n))"
    assert page.evaluate(handlers) == []
    parts = (f"{HOSTILE}.vmdk".replace("\u202e", "⟨U+202E⟩"), HOSTILE_TEXT, HOSTILE_TYPE)
    text = page.locator("body").inner_text()
    titles = page.evaluate("[...document.querySelectorAll('[title]')].map((e) => e.title)")
    for part in parts:  # a long name or path is shortened, and then whole in its title
        assert part in text or part in titles
    assert "49" not in re.findall(r"</script>(\S+)", text), "no template in a template"
    check_many_runs(page)
    opened.check()
    opened.context.close()


def check_many_runs(page: Page) -> None:
    """All is counted, the map is coarse and says so, the table is cut and says so, and both are still used quickly."""
    assert f"The 2,000 largest of {RUNS // 4 + 1:,}" in page.locator("#trimmed").inner_text()
    note = page.locator("#map-0-help").inner_text()
    assert re.search(r"Aggregated: neighbouring runs that together have [\d.]+ [KMGT]iB or less", note)
    table = page.locator("#table-unmapped")
    assert table.locator("tbody tr").count() == 2000
    assert table.locator("tbody tr").first.locator("td").nth(1).inner_text() == "8 KiB"
    row = page.get_by_role("row", name=re.compile("^the disk")).first.inner_text()
    assert f"{RUNS // 4 + 1:,} runs" in row
    page.locator("#trimmed input[type=search]").fill("0xee6b2800")
    page.locator("#table-unmapped th button").first.click()
    page.locator("#map-0 .plot").focus()
    page.keyboard.press("Home")
    page.keyboard.press("n")
    address, told = marked(page)
    assert address < 1 << 30
    assert "runs" in told
    assert "unmapped" in told
    assert page.evaluate("performance.timing.domComplete - performance.timing.responseEnd") < 20_000


def test_example_is_small(example_page: Path) -> None:
    assert example_page.stat().st_size < 200_000
