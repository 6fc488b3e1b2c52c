"""Pages of an HTTP JSON API: what is in an answer, and what to ask for next; nothing is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from sqm.reads import Paging


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    url: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    number: int  # 1 for the first
    request: Request
    body: Any  # parsed JSON
    records: list[dict[str, Any]]
    next_link: str | None  # of the Link header


class PagingError(Exception):
    """The pages make no sense: problem and remedy."""


@dataclass(slots=True)
class Pages:
    """Follows the pages of one answer; recognizes pages that come again and cursors without end."""

    paging: Paging
    records_path: str | None
    received: int = 0
    _asked: set[str] = field(default_factory=set)
    _seen: set[bytes] = field(default_factory=set)

    def first(self, url: str, params: Mapping[str, str]) -> Request:
        """The request for the first page."""
        paging = self.paging
        added = {}
        if paging.size_param is not None and paging.size is not None:
            added[paging.size_param] = str(paging.size)
        if paging.param is not None and paging.style in ("page", "offset"):
            added[paging.param] = str(paging.first if paging.style == "page" else 0)
        return Request(url, {**params, **added})

    def page(self, number: int, request: Request, text: str, next_link: str | None) -> Page:
        """The answer as a page; raises PagingError when it is not what it should be."""
        try:
            body = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            found = "HTML, perhaps a login page" if text.lstrip()[:1] == "<" else "no JSON"
            raise PagingError(f"page {number} is {found}; check address and credentials") from error
        records = _records(body, self.records_path, number)
        if records:
            print_of_page = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).digest()
            if print_of_page in self._seen:
                raise PagingError(
                    f"page {number} is the same as one before it, so paging does not advance;"
                    " check paging.style and paging.param"
                )
            self._seen.add(print_of_page)
        self.received += len(records)
        return Page(number, request, body, records, next_link)

    def after(self, page: Page) -> Request | None:
        """The request for the next page; None after the last one. Raises PagingError."""
        request = self._next(page)
        if request is None:
            return None
        if page.number >= self.paging.max_pages:
            raise PagingError(
                f"there is no end after {page.number:,} pages;"
                " ask for less, or raise paging.max_pages"
            )
        asked = f"{request.url}?{sorted(request.params.items())}"
        if asked in self._asked:
            raise PagingError(
                f"after page {page.number} the cursor leads to a page that was read before;"
                " check paging.next and paging.more"
            )
        self._asked.add(asked)
        return request

    def _next(self, page: Page) -> Request | None:
        paging = self.paging
        if paging.style == "none" or _is_last(paging, page):
            return None
        if paging.style in ("page", "offset"):
            return self._counted(page)
        if paging.style == "link_header":
            return _followed(page, page.next_link)
        found = value_at(page.body, paging.next or "")
        if found is None or found == "":
            return None
        if not isinstance(found, str | int):
            raise PagingError(
                f"page {page.number}: '{paging.next}' is neither text nor number;"
                " correct paging.next"
            )
        if paging.style == "next_url":
            return _followed(page, str(found))
        return Request(page.request.url, {**page.request.params, str(paging.param): str(found)})

    def _counted(self, page: Page) -> Request | None:
        """The next number or offset; an empty page, or all records received, is the end."""
        paging = self.paging
        follows_links = paging.more == "link_header"
        if not page.records and not follows_links:
            return None
        if paging.total is not None:
            total = value_at(page.body, paging.total)
            if not isinstance(total, int):
                raise PagingError(
                    f"page {page.number} has no number '{paging.total}'; correct paging.total"
                )
            if self.received >= total:
                return None
        param = str(paging.param)
        now = int(page.request.params[param])
        # a server may give fewer than asked for, so an offset counts what came
        step = 1 if paging.style == "page" else len(page.records)
        if paging.style == "offset" and follows_links:
            step = paging.size or step
        return Request(page.request.url, {**page.request.params, param: str(now + step)})


def value_at(body: Any, path: str) -> Any:
    """What stands at a dotted path; None where there is nothing."""
    for key in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(key)
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _records(body: Any, path: str | None, number: int) -> list[dict[str, Any]]:
    found = body if path is None else value_at(body, path)
    if not isinstance(found, list):
        where = "is not a list" if path is None else f"has no list '{path}'"
        known = ", ".join(sorted(body)[:10]) if isinstance(body, dict) else type(body).__name__
        raise PagingError(f"page {number} {where} (it has: {known}); correct read.records")
    if not all(isinstance(record, dict) for record in found):
        raise PagingError(f"page {number} holds what is no record; correct read.records")
    return found


def _is_last(paging: Paging, page: Page) -> bool:
    if paging.more == "link_header":
        return page.next_link is None
    if paging.more is not None and not value_at(page.body, paging.more):
        return True
    return paging.last is not None and bool(value_at(page.body, paging.last))


def _followed(page: Page, address: str | None) -> Request | None:
    """The address that an answer gave, if it is on the same server: credentials go there."""
    if not address:
        return None
    url = urljoin(page.request.url, address)
    here, there = urlsplit(page.request.url), urlsplit(url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise PagingError(
            f"page {page.number} leads to another server ({there.scheme}://{there.hostname});"
            " write its address in read.http, or page by offset"
        )
    return Request(url, {})
