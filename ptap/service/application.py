"""What is served under which path: a WSGI application.

Every path begins with the token, without which nothing is there; only what has it may be read by another origin, and
only by that of the Firefox Profiler. A name in `Host` that is not this server's is refused: a web page that had its
own name lead to this address (DNS rebinding) would be of the same origin.
"""

from __future__ import annotations

import hmac
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    MisdirectedRequest,
    NotFound,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    UnprocessableEntity,
)
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from ptap.cli.failure import Failure, told_to_the_user
from ptap.profile.json_text import json_text
from ptap.service.capture_facts import Content, content_of
from ptap.service.firefox_profile import ProfileError, read_profile
from ptap.service.json_request import read_json
from ptap.service.loopback_server import LATE
from ptap.service.made_reports import AS_IT_IS, FORMS, MadeReports
from ptap.service.module_directory import ModuleDirectory
from ptap.service.source_text import read_source_request, source_answer
from ptap.service.symbolication import Symbolication, read_jobs
from ptap.service.work_queue import Unfinished, WorkQueue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ptap.capture_report import ReportOptions
    from ptap.service.capture_facts import CaptureFacts
    from ptap.service.limits import Limits
    from ptap.service.served_files import ServedFile

_T = TypeVar("_T")

PROFILER = "https://profiler.firefox.com"
_METHODS = "GET, HEAD, POST, OPTIONS"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the token is in the path
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ASKED_FOR = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_LIST_POLICY = f"{_ASKED_FOR}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_REPORT_POLICY = f"{_ASKED_FOR}; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_PAGE_FILES = {"": "text/html", "list.css": "text/css", "list.js": "text/javascript"}
_RETRY_SECONDS = 3


class Application:
    """Serves `served`. `origin` is this server's own (`http://127.0.0.1:4321`), `profiler` the Firefox Profiler's."""

    def __init__(
        self,
        served: list[ServedFile],
        options: ReportOptions,
        limits: Limits,
        token: str,
        origin: str,
        profiler: str = PROFILER,
    ) -> None:
        self._served = served
        self._options = options
        self._limits = limits
        self._token = token
        self._profiler = profiler.rstrip("/")
        self._reports = MadeReports(options, limits.kept_report_bytes)
        named = tuple(file.path for file in served)
        self._modules = ModuleDirectory(self._all_facts, named, options.sysroot, limits.open_modules)
        self._work = WorkQueue()
        self._hosts = _host_headers(origin)
        self.url = f"{origin}/{token}"
        self._map = Map(
            [
                *(Rule(f"/{name}", endpoint=self._page_file, methods=["GET"], defaults={"name": name})
                  for name in _PAGE_FILES),
                Rule("/files.json", endpoint=self._list, methods=["GET"]),
                Rule("/file/<int:number>/facts.json", endpoint=self._facts, methods=["GET"]),
                Rule("/file/<int:number>/<name>", endpoint=self._report, methods=["GET"]),
                Rule("/symbolicate/v5", endpoint=self._symbolicate, methods=["POST"]),
                Rule("/source/v1", endpoint=self._source, methods=["POST"]),
            ],
            redirect_defaults=False,
        )  # fmt: skip

    def profiler_url(self, number: int) -> str:
        """Where the Firefox Profiler opens a served file, with this server for its symbols and sources."""
        profile = f"{self.url}/file/{number}/firefox.json"
        return f"{self._profiler}/from-url/{quote(profile, safe='')}/?symbolServer={quote(self.url, safe='')}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = _error_response(error)
        except Exception:
            traceback.print_exc()
            response = _error_response(InternalServerError("this is a defect of ptap; its terminal tells more"))
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        _check_arrival(request)  # a head that was cut off looks like a whole one
        if request.headers.get("Host") not in self._hosts:
            raise MisdirectedRequest("the Host header names another server")
        _, token, *rest = request.path.split("/", 2)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            raise NotFound("nothing is here; the address that ptap has printed has a token in it")
        try:
            if rest:
                response = self._answer_with_token(request, "/" + rest[0])
            else:
                response = redirect(f"/{token}/", 308, Response)
        except HTTPException as error:
            response = _error_response(error)
        response.headers["Access-Control-Allow-Origin"] = self._allowed_origin
        return response

    @property
    def _allowed_origin(self) -> str:
        parts = urlsplit(self._profiler)
        return f"{parts.scheme}://{parts.netloc}"

    def _answer_with_token(self, request: Request, path: str) -> Response:
        if request.method == "OPTIONS":
            return _preflight(request)
        endpoint, values = self._map.bind("").match(path, request.method)
        answer: Callable[..., Response] = endpoint
        return answer(request, **values)

    # --- the page

    def _page_file(self, _: Request, name: str) -> Response:
        text = (files("ptap.service") / "list_page" / (name or "page.html")).read_bytes()
        response = Response(text, content_type=f"{_PAGE_FILES[name]}; charset=utf-8")
        response.headers["Content-Security-Policy"] = _LIST_POLICY
        return response

    def _list(self, _: Request) -> Response:
        return _json([self._described(number, file) for number, file in enumerate(self._served)])

    def _described(self, number: int, file: ServedFile) -> dict[str, Any]:
        told: dict[str, Any] = {"path": json_text(file.path), "profiler": self.profiler_url(number)}
        try:
            state = file.state()
        except OSError as error:
            return {**told, "problem": error.strerror}
        return {**told, "bytes": state.size, "modified_ms": state.modified_ns // 1_000_000}

    def _facts(self, _: Request, number: int) -> Response:
        file = self._file(number)
        facts = file.known_facts() or self._done(file.facts, ("facts", number))
        return _json(
            {
                "kind": facts.kind,
                "forms": _forms(facts.content),
                "counts": facts.counts,
                "modules": len(facts.modules),
                "problems": [json_text(each) for each in facts.problems],
                "told": [json_text(each) for each in self._reports.told(file.path)],
            }
        )

    def _report(self, _: Request, number: int, name: str) -> Response:
        file, form = self._file(number), FORMS.get(name)
        if form is None:
            raise NotFound(f"there is no report {name!r}; there are {', '.join(FORMS)}")
        try:
            state = file.state()
        except OSError as error:
            raise NotFound(f"{json_text(file.path)}: {error.strerror}") from None
        made = self._reports.kept(state, form)
        if made is None:

            def make() -> bytes:
                with told_to_the_user():
                    if name == AS_IT_IS and content_of(file.path) is Content.PROFILE:
                        return read_profile(file.path)
                    return self._reports.make(state, form)

            try:
                made = self._done(make, (state, name), self._limits.report_seconds)
            except (Failure, ProfileError) as error:
                raise UnprocessableEntity(json_text(str(error))) from None
        response = Response(made, content_type=form.media_type)
        response.headers["Content-Security-Policy"] = _REPORT_POLICY
        return response

    def _file(self, number: int) -> ServedFile:
        if number >= len(self._served):
            raise NotFound(f"there is no file {number}")
        return self._served[number]

    # --- symbols and sources

    def _symbolicate(self, request: Request) -> Response:
        body = self._body(request)

        def answer() -> bytes:
            jobs = read_jobs(read_json(body), self._limits)
            return Symbolication(jobs, self._modules, self._limits).answer()

        return Response(self._done(answer), content_type="application/json")

    def _source(self, request: Request) -> Response:
        asked = read_source_request(read_json(self._body(request)))
        limit, sysroot = self._limits.source_bytes, self._options.sysroot
        return _json(self._done(lambda: source_answer(asked, self._modules, sysroot, limit)))

    def _body(self, request: Request) -> bytes:
        """A request's body. Raises RequestTimeout, RequestEntityTooLarge, BadRequest."""
        limit = self._limits.request_bytes
        too_large = RequestEntityTooLarge(f"the request has more than {limit} bytes")
        request.max_content_length = limit + 1  # of a body whose length is not told, no more is read
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise too_large from None
        except (BadRequest, OSError):
            _check_arrival(request)
            raise BadRequest("the request ends before its end") from None
        if len(body) > limit:
            raise too_large
        return body

    def _all_facts(self) -> Iterator[tuple[str, CaptureFacts]]:
        for file in self._served:
            yield file.path, file.facts()

    def _done(self, job: Callable[[], _T], key: object = None, seconds: float | None = None) -> _T:
        """What a job comes to, in time. Raises ServiceUnavailable, and what the job raises."""
        try:
            return self._work.result(job, self._limits.answer_seconds if seconds is None else seconds, key)
        except Unfinished:
            raise ServiceUnavailable("it takes a while; ask again", retry_after=_RETRY_SECONDS) from None


def _forms(content: Content) -> list[str]:
    if content is Content.PROFILE:
        return [AS_IT_IS]
    return list(FORMS) if content is Content.STACKS else []


def _host_headers(origin: str) -> set[str]:
    """What `Host` says of whoever means this server; browsers leave out the port that is HTTP's own."""
    place = urlsplit(origin)
    hosts = {place.netloc, f"localhost:{place.port}"}
    return hosts | {each.removesuffix(":80") for each in hosts}


def _check_arrival(request: Request) -> None:
    """Raises RequestTimeout for a request that was cut off because it did not arrive in time."""
    if request.environ[LATE].is_set():
        raise RequestTimeout("the request did not arrive in time")


def _preflight(request: Request) -> Response:
    """What a browser asks before it lets another origin's page ask (fetch.spec.whatwg.org, "CORS-preflight fetch")."""
    response = Response(status=204)
    response.headers["Allow"] = _METHODS
    if "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Max-Age"] = "600"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type"
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        response.headers["Access-Control-Allow-Private-Network"] = "true"
    return response


def _json(value: Any) -> Response:
    return Response(json.dumps(value), content_type="application/json")


def _error_response(error: HTTPException) -> Response:
    """An error as the API's users read it; of one that passes a browser asks again by itself."""
    response = _json({"error": error.description})
    response.status_code = error.code or 500
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After", "Location"):
            response.headers[name] = value
            if name == "Retry-After":
                response.headers["Refresh"] = value
    return response
