"""The page of a profile in a real browser: what it draws, and what clicks, words and keys do to it."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from pathlib import Path

import pytest
from stack_profile.made_traces import STRANGE, frame, profile_of, random_traces, strange_traces, trace, weighed_stacks

from ptap.profile.html import write_difference_html, write_html
from ptap.profile.profile_diff import ProfileDiff


def opened(browser, path: Path, profile, title: str = "a page", write=write_html):
    """The page of a profile, drawn; nothing has gone wrong in it."""
    from selenium.webdriver.support.wait import WebDriverWait

    with open(path, "w", encoding="utf-8") as stream:
        write(profile, stream, title=title)
    browser.get(path.as_uri())
    # The page says when it was drawn, which a benchmark measures.
    for told in ("document.body.dataset.ready", "performance.getEntriesByName('drawn').length"):
        WebDriverWait(browser, 60).until(lambda driver, told=told: driver.execute_script(f"return {told}"))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    return browser


def run(browser, script: str):
    return browser.execute_script(f"return {script}")


def boxes(browser) -> list[dict]:
    """What is drawn: name, weight, place and width."""
    return run(
        browser,
        "page.boxes.map((box) => ({name: box.node ? functionName(box.tree.functions[box.node]) : 'all',"
        " total: box.tree.total[box.node], x: box.x, y: box.y, width: box.width}))",
    )


def click_on(browser, name: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    box = next(each for each in boxes(browser) if each["name"] == name)
    canvas = browser.find_element("id", "graph")
    size = canvas.size
    across, down = box["x"] + box["width"] / 2 - size["width"] / 2, box["y"] + 8 - size["height"] / 2
    ActionChains(browser).move_to_element_with_offset(canvas, int(across), int(down)).click().perform()


def press(browser, key: str) -> None:
    browser.find_element("tag name", "body").send_keys(key)


def nested():
    """main calls left (30) and right (70), right calls deep (60, a fifth of it inlined)."""
    left, right = [frame("left"), frame("main")], [frame("right"), frame("main")]
    deep = [frame("deep", line=7, file="/src/deep.c"), *right]
    inlined = [frame("tiny", inlined=True), *deep]
    return profile_of(
        [trace(left, weight=30), trace(right, weight=10), trace(deep, weight=48), trace(inlined, weight=12)]
    )


def colours_of(png: bytes) -> Counter[bytes]:
    """The pixels of a PNG by colour (W3C PNG §9, filters undone)."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8 and kind in (2, 6)
    data, at = b"", 8
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw, step = zlib.decompress(data), 3 if kind == 2 else 4
    rows, before = Counter[bytes](), bytearray(width * step)
    for row in range(height):
        start = row * (width * step + 1)
        line = bytearray(raw[start + 1 : start + 1 + width * step])
        for i in range(len(line)):
            a, b = line[i - step] if i >= step else 0, before[i]
            c = before[i - step] if i >= step else 0
            p = a + b - c
            near = a if abs(p - a) <= min(abs(p - b), abs(p - c)) else b if abs(p - b) <= abs(p - c) else c
            line[i] = line[i] + (0, a, b, (a + b) // 2, near)[raw[start]] & 255
        rows.update(bytes(line[i : i + 3]) for i in range(0, len(line), step))
        before = line
    return rows


def test_a_flame_graph_is_drawn_to_scale(browser, tmp_path):
    opened(browser, tmp_path / "page.html", nested())
    drawn = {box["name"]: box for box in boxes(browser)}
    assert {name: box["total"] for name, box in drawn.items()} == {
        "all": 100, "main": 100, "left": 30, "right": 70, "deep": 60, "tiny": 12,
    }  # fmt: skip
    assert drawn["left"]["width"] / drawn["main"]["width"] == pytest.approx(0.3)
    assert drawn["main"]["y"] < drawn["all"]["y"], "a flame graph grows upwards"
    assert len(colours_of(browser.get_screenshot_as_png())) > 10


def test_a_click_zooms_and_shows_lines(browser, tmp_path):
    opened(browser, tmp_path / "page.html", nested())
    click_on(browser, "right")
    drawn = {box["name"]: box for box in boxes(browser)}
    assert drawn["right"]["width"] == drawn["main"]["width"] and "left" not in drawn
    click_on(browser, "deep")
    detail = browser.find_element("id", "detail").text
    assert "deep" in detail and "/src/deep.c:7" in detail and "60 (60.00%)" in detail
    press(browser, "0")
    assert "left" in {box["name"] for box in boxes(browser)}


def test_search_marks_and_counts(browser, tmp_path):
    opened(browser, tmp_path / "page.html", nested())
    field = browser.find_element("id", "search")
    field.send_keys("^(deep|tiny)$")
    assert browser.find_element("id", "found").text == "60.00% found"
    field.clear()
    field.send_keys("(")  # no regular expression: looked for as it is
    assert browser.find_element("id", "found").text == "0.00% found"


def test_keys_and_views(browser, tmp_path):
    opened(browser, tmp_path / "page.html", nested())
    press(browser, "i")
    drawn = {box["name"]: box for box in boxes(browser)}
    assert drawn["main"]["y"] > drawn["all"]["y"], "an icicle hangs down"
    press(browser, "r")
    drawn = {box["name"]: box["total"] for box in boxes(browser)}
    by_depth = {box["name"]: box["y"] for box in boxes(browser)}
    assert drawn["left"] == 30 and by_depth["left"] < by_depth["main"]
    press(browser, "r")
    press(browser, "t")
    rows = browser.find_elements("css selector", "#table tbody tr")
    assert [row.text.split()[:3] for row in rows][:2] == [["48", "48.00%", "60"], ["30", "30.00%", "30"]]
    rows[0].click()
    drawn = boxes(browser)
    places = {box["name"]: box["y"] for box in drawn}
    assert places["main"] < places["right"] < places["tiny"], "callers above, callees below"
    themes = []
    for _ in range(2):
        press(browser, "d")
        themes.append(run(browser, "document.documentElement.dataset.theme"))
    assert sorted(themes) == ["dark", "light"]


def test_threads_and_processes_are_told_apart(browser, tmp_path):
    profile = profile_of(random_traces(200))
    opened(browser, tmp_path / "page.html", profile)
    assert run(browser, "page.tree.total[0]") == profile.weight
    weights: Counter[str] = Counter()
    for who, _, weight in weighed_stacks(profile):
        weights[f"process {who.pid}"] += weight
    for value, weight in weights.items():
        run(browser, f"(element('threads').value = '{value}', rebuild(), 0)")
        assert run(browser, "page.tree.total[0]") == weight
    assert "cut short" in browser.find_element("id", "facts").text
    assert "[cut short: stack cut]" in {box["name"] for box in boxes(browser)}


def test_a_large_tree_has_every_stack_in_both_directions(browser, tmp_path):
    profile = profile_of(random_traces(4000))
    opened(browser, tmp_path / "page.html", profile)
    for turned in (False, True):
        expected: Counter[str] = Counter()
        for _, names, weight in weighed_stacks(profile):
            expected[";".join(names if turned else names[::-1])] += weight
        run(browser, f"(page.reverse = {str(turned).lower()}, rebuild(), 0)")
        found: Counter[str] = Counter()
        stacks = run(
            browser,
            "[...page.tree.own.keys()].filter((node) => page.tree.own[node]).map((node) => [page.tree.path(node)"
            ".reverse().map((at) => functionName(page.tree.functions[at])), page.tree.own[node]])",
        )
        for names, weight in stacks:
            found[";".join(names)] += weight
        assert found == expected and run(browser, "page.tree.count") > 5000
        # What is called stands side by side from where the caller begins, by name.
        assert run(
            browser,
            "[...page.tree.own.keys()].every((node) => {"
            " const { total, start, functions } = page.tree, children = [...page.tree.childrenOf(node)];"
            " return children.every((child, at) => start[child] === (at ? start[children[at - 1]]"
            " + total[children[at - 1]] : start[node]) && (!at || functionName(functions[children[at - 1]])"
            " <= functionName(functions[child]))); })",
        )


def test_no_name_breaks_the_page(browser, tmp_path):
    opened(browser, tmp_path / "page.html", profile_of(strange_traces()), title="</title><i>")
    names = set(run(browser, "page.data.functions.map((of) => of.name)"))
    escaped = {name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in STRANGE}
    assert escaped <= names and browser.title == "</title><i>"
    assert run(browser, "document.querySelectorAll('b, i').length") == 0


@pytest.mark.parametrize("traces", [[], [trace([frame("main")])]], ids=["empty", "one"])
def test_little_is_shown_too(browser, tmp_path, traces):
    opened(browser, tmp_path / "page.html", profile_of(traces))
    assert [box["name"] for box in boxes(browser)] == (["all", "main"] if traces else [])


def changed() -> ProfileDiff:
    """Of 100 and of 200: same 60% to 45%, what is gone 40%, what is new 55%."""
    same, gone, new = ([frame(name), frame("main")] for name in ("same", "gone", "new"))
    before = profile_of([trace(same, weight=60), trace(gone, weight=40, comm="other")])
    after = profile_of([trace(same, weight=90), trace(new, weight=110)])
    return ProfileDiff(before, after)


def test_a_difference_shows_what_is_new_and_what_is_gone(browser, tmp_path):
    opened(browser, tmp_path / "page.html", changed(), write=write_difference_html)
    drawn = {box["name"]: box for box in boxes(browser)}
    # Weights before count twice, as the whole is 200 after.
    assert {name: box["total"] for name, box in drawn.items()} == {
        "all": 400, "main": 400, "same": 210, "gone": 80, "new": 110,
    }  # fmt: skip
    assert drawn["gone"]["width"] / drawn["main"]["width"] == pytest.approx(0.2)
    words = run(
        browser,
        "Object.fromEntries(page.boxes.filter((box) => box.node).map((box) =>"
        " [functionName(box.tree.functions[box.node]), weightWords(box.tree, box.node)]))",
    )
    assert words == {
        "main": "100.00% → 100.00%, 0.00%",
        "same": "60.00% → 45.00%, -15.00%",
        "gone": "40.00% → 0.00%, -40.00% (gone)",
        "new": "0.00% → 55.00%, +55.00% (new)",
    }
    hues = run(browser, "[[1, 0], [3, 2], [2, 3], [0, 1]].map(([before, after]) => changeColour(before, after))")
    assert [hue.split()[0] for hue in hues] == ["hsl(214", "hsl(214", "hsl(6", "hsl(6"] and len(set(hues)) == 4
    assert len(colours_of(browser.get_screenshot_as_png())) > 10
    for side, weights in (("before", {"same": 120, "gone": 80}), ("after", {"same": 90, "new": 110})):
        run(browser, f"(element('widths').value = '{side}', element('widths').onchange(), 0)")
        drawn = {box["name"]: box["total"] for box in boxes(browser)}
        assert drawn == {"all": 200, "main": 200, **weights}


def test_a_differences_functions_and_threads(browser, tmp_path):
    opened(browser, tmp_path / "page.html", changed(), write=write_difference_html)
    press(browser, "t")
    rows = [row.text.split()[:7] for row in browser.find_elements("css selector", "#table tbody tr")]
    assert rows == [
        ["0.00%", "55.00%", "+55.00%", "0.00%", "55.00%", "+55.00%", "new"],
        ["40.00%", "0.00%", "-40.00%", "40.00%", "0.00%", "-40.00%", "gone"],
        ["60.00%", "45.00%", "-15.00%", "60.00%", "45.00%", "-15.00%", "same"],
        ["0.00%", "0.00%", "0.00%", "100.00%", "100.00%", "0.00%", "main"],
    ]
    options = [each.text for each in browser.find_elements("css selector", "#threads option")]
    assert options == ["all threads (2)", "prog", "other"]
    run(browser, "(element('threads').value = 'thread 1', rebuild(), 0)")
    assert run(browser, "[page.tree.totalBefore[0], page.tree.totalAfter[0]]") == [80, 0]


@pytest.mark.parametrize(("before", "after"), [([], []), ([], [trace([])]), ([trace([])], [])])
def test_a_difference_to_nothing(browser, tmp_path, before, after):
    diff = ProfileDiff(profile_of(before), profile_of(after))
    opened(browser, tmp_path / "page.html", diff, write=write_difference_html)
    assert run(browser, "page.tree.total[0]") == len(before) + len(after)


def test_the_page_asks_for_nothing(browser, tmp_path):
    """It works from disk without a network: no address is in it but what traces say."""
    opened(browser, tmp_path / "page.html", nested())
    assert run(browser, "performance.getEntriesByType('resource').length") == 0
    assert "http" not in (tmp_path / "page.html").read_text(encoding="utf-8")
