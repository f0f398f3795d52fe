"""The page in a real browser: what it lists, where its links lead, and that the reports open from it."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from service.served import TOKEN, serving


def wait_until_ready(browser, title: str) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    ready = "return document.title === arguments[0] && document.body.dataset.ready"
    WebDriverWait(browser, 300).until(lambda driver: driver.execute_script(ready, title))
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry for entry in severe if "favicon.ico" not in entry["message"]] == []


def test_the_page_lists_and_opens(browser, recording, shop, tmp_path):
    """A file's name is shown as it is, whatever is in it; problems are shown at their file."""
    strange = tmp_path / '<b onclick="x">&amp;.data'
    shutil.copy(recording, strange)
    damaged = tmp_path / "damaged.data"
    damaged.write_bytes(b"PERFILE2" + b"\0" * 8)
    (tmp_path / "other.json").write_text('{"meta": {}, "libs": []}')
    with serving(strange, damaged, shop / "shop", tmp_path / "other.json") as served:
        own = f"http://127.0.0.1:{served.port}/{TOKEN}"
        facts = served.get("/file/0/facts.json").json
        browser.get(f"{own}/")
        wait_until_ready(browser, "ptap serve")
        articles = browser.find_elements("tag name", "article")
        assert [each.find_element("tag name", "h2").text for each in articles] == [
            strange.name,
            damaged.name,
            "shop",
            "other.json",
        ]
        assert browser.execute_script("return document.querySelectorAll('main b').length") == 0
        samples = facts["counts"]["samples"]
        assert "perf.data file" in articles[0].text and f"{samples} samples" in articles[0].text
        assert f"{strange.stat().st_size / 1024:.1f} KiB" in articles[0].text
        links = {each.text: each for each in articles[0].find_elements("tag name", "a")}
        assert {name: (each.get_attribute("href"), each.get_attribute("download")) for name, each in links.items()} == {
            "Flame graph": (f"{own}/file/0/report.html", ""),
            "Firefox Profiler": (served.application.profiler_url(0), ""),
            "Firefox Profiler's JSON": (f"{own}/file/0/firefox.json", f"{strange.name}.firefox.json"),
            "pprof": (f"{own}/file/0/profile.pb.gz", f"{strange.name}.profile.pb.gz"),
            "speedscope": (f"{own}/file/0/speedscope.json", f"{strange.name}.speedscope.json"),
        }
        assert quote(f"{own}/file/0/firefox.json", safe="") in links["Firefox Profiler"].get_attribute("href")
        assert articles[1].find_elements("css selector", ".problems li")
        assert "program or library" in articles[2].text and not articles[2].find_elements("tag name", "a")
        assert [each.text for each in articles[3].find_elements("tag name", "a")] == [
            "Firefox Profiler",
            "Firefox Profiler's JSON",
        ]
        links["Flame graph"].click()
        wait_until_ready(browser, strange.name)
        assert f"{samples} samples" in browser.find_element("id", "facts").text
        assert browser.execute_script("return page.boxes.length") > 1
        browser.get(f"{own}/")
        wait_until_ready(browser, "ptap serve")
        assert "hits" in browser.find_element("css selector", "article .faint:last-child").text


_ASK = """
const [url, done] = arguments;
fetch(url + "/symbolicate/v5", {method: "POST", mode: "cors", body: '{"jobs": []}'})
  .then((answer) => answer.text()).then(done, () => done("refused"));
"""


class _EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>another site</title>")

    def log_message(self, *_: object) -> None:
        pass


def test_a_browser_gives_answers_to_the_profiler_alone(browser, shop):
    """A page asks as the Firefox Profiler does; one of another origin gets nothing. Names of a host are origins."""
    site = ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage)
    threading.Thread(target=site.serve_forever, args=(0.02,)).start()
    profiler, other = (f"http://{name}:{site.server_port}" for name in ("127.0.0.1", "localhost"))
    try:
        with serving(shop / "shop", profiler=profiler) as served:
            for origin, answer in ((profiler, '{"results":[]}'), (other, "refused")):
                browser.get(origin)
                assert browser.execute_async_script(_ASK, served.application.url) == answer
    finally:
        site.shutdown()
        site.server_close()
        browser.get_log("browser")
