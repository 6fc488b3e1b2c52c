"""How a source is read, as it is written under `read` and `incremental` in sqm.yaml.

docs/sources.md explains every key. Nothing here reaches outside; `${NAME}` is expanded at pull
time, so that `sqm check` needs no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from sqm.terms import Definition, Expression

Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]  # a blank or a tab counts
Format = Literal["csv", "parquet", "json", "excel", "sql", "http"]
FILE_FORMATS = ("csv", "parquet", "json", "excel")
SQL_SCHEMES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "sqlserver")

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_CURSOR = re.compile(r"\{cursor(?::([^}]*))?\}")
_WRITTEN_SECRET = "a secret is written in the file"  # noqa: S105  # words for the author
_FROM_ENVIRONMENT = "write ${NAME}, and set NAME in the environment"

# which of the other keys belong to which form
_HTTP_KEYS = (
    "preset paging records params headers auth optional timeout attempts backoff max_wait"
    " per_second null_values"
)
_KEYS: Mapping[str, frozenset[str]] = {
    "csv": frozenset({"null_values", "delimiter", "encoding"}),
    "parquet": frozenset(),
    "json": frozenset(),
    "excel": frozenset({"null_values", "sheet", "header_row"}),
    "sql": frozenset({"query", "table", "timeout"}),
    "http": frozenset(_HTTP_KEYS.split()),
}


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; raises KeyError(NAME) where neither is set."""

    def value_of(match: re.Match[str]) -> str:
        value = environment.get(match[1]) or match[2]
        if value is None:
            raise KeyError(match[1])
        return value

    return _VARIABLE.sub(value_of, text)


def variables_of(text: str) -> list[str]:
    """The names of the environment variables in the text."""
    return [match[1] for match in _VARIABLE.finditer(text)]


def has_broken_variable(text: str) -> bool:
    """Whether a `${` begins no variable."""
    return "${" in _VARIABLE.sub("", text)


def unknown_placeholders(text: str) -> list[str]:
    """The words in `{word}` and `{word:format}` that are not `cursor`."""
    words = re.findall(r"\{([a-z_]\w*)(?::[^}]*)?\}", text)
    return [word for word in words if word != "cursor"]


def cursor_formats(text: str) -> list[str]:
    """The formats of each `{cursor:format}` in the text; empty where none is given."""
    return [match[1] or "" for match in _CURSOR.finditer(text)]


def fill_cursor(text: str, values: Mapping[str, str]) -> str:
    """Replace each `{cursor:format}`; `values` gives the text by format."""
    return _CURSOR.sub(lambda match: values[match[1] or ""], text)


def is_from_environment(text: str) -> bool:
    """Whether a secret consists of variables alone, without defaults in the file."""
    return not _VARIABLE.sub("", text) and all(m[2] is None for m in _VARIABLE.finditer(text))


class Auth(Definition):
    """Who asks: a bearer token, a header of any name, or user and password."""

    bearer: str | None = None
    header: str | None = None
    value: str | None = None
    user: str | None = None
    password: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = self.model_fields_set
        if given not in ({"bearer"}, {"header", "value"}, {"user", "password"}):
            raise ValueError("give 'bearer', or 'header' and 'value', or 'user' and 'password'")
        for key in ("bearer", "value", "password"):
            text = getattr(self, key)
            if text is not None and not is_from_environment(text):
                raise ValueError(f"{_WRITTEN_SECRET} ('{key}'); {_FROM_ENVIRONMENT}")
        return self

    @property
    def secrets(self) -> dict[str, str]:
        """The secret values as they are written, by key."""
        keys = ("bearer", "value", "password")
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}


class Paging(Definition):
    """How an answer leads to the next page. Paths are dotted keys in the answer."""

    style: Literal["none", "page", "offset", "cursor", "next_url", "link_header"] = "none"
    param: str | None = None  # what carries the page number, the offset or the cursor
    size_param: str | None = None
    size: int | None = Field(default=None, ge=1)
    first: int = 1  # number of the first page
    next: str | None = None  # path of the cursor, or of the next page's address
    total: str | None = None  # path of the number of all records
    more: str | None = None  # path of a flag: there is another page; or `link_header`
    last: str | None = None  # path of a flag: this is the last page
    max_pages: int = Field(default=10_000, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            "page": ("param",),
            "offset": ("param",),
            "cursor": ("param", "next"),
            "next_url": ("next",),
        }
        for key in needed.get(self.style, ()):
            if getattr(self, key) is None:
                raise ValueError(
                    f"paging by {self.style} needs '{key}'; add it, see docs/sources.md"
                )
        if (self.size is None) != (self.size_param is None):
            raise ValueError("give both of 'size' and 'size_param', or none")
        if self.style == "offset" and self.more == "link_header" and self.size is None:
            raise ValueError("an offset that follows the Link header steps by 'size'; add it")
        return self


_PRESETS: Mapping[str, Mapping[str, object]] = {
    # rows hidden by access rules make short pages, so the Link header says whether there is more
    "servicenow": {
        "records": "result",
        "params": {"sysparm_exclude_reference_link": "true"},
        "paging": {
            "style": "offset",
            "param": "sysparm_offset",
            "size_param": "sysparm_limit",
            "size": 1000,
            "more": "link_header",
        },
    },
    "jira": {  # Data Center: /rest/api/2/search
        "records": "issues",
        "paging": {
            "style": "offset",
            "param": "startAt",
            "size_param": "maxResults",
            "size": 100,
            "total": "total",
        },
    },
    "jira_cloud": {  # /rest/api/3/search/jql
        "records": "issues",
        "paging": {
            "style": "cursor",
            "param": "nextPageToken",
            "size_param": "maxResults",
            "size": 100,
            "next": "nextPageToken",
            "last": "isLast",
        },
    },
    "zendesk": {  # the list's name depends on what is asked for: write `records`
        "paging": {
            "style": "next_url",
            "next": "links.next",
            "more": "meta.has_more",
            "size_param": "page[size]",
            "size": 100,
        },
    },
}


class Read(Definition):
    """Where a source's rows come from and how to read them; one of the six forms."""

    csv: str | None = None
    parquet: str | None = None
    json_: str | None = Field(default=None, alias="json")
    excel: str | None = None
    sql: str | None = None
    http: str | None = None
    null_values: tuple[Verbatim, ...] = ("",)
    delimiter: Verbatim = Field(default=",", min_length=1, max_length=1)
    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"
    sheet: str | None = None  # None: the first one
    header_row: int = Field(default=1, ge=1)
    query: str | None = Field(default=None, min_length=1)
    table: str | None = Field(default=None, pattern=r"^[^\s.'\";]+(\.[^\s.'\";]+){0,2}$")
    preset: Literal["servicenow", "jira", "jira_cloud", "zendesk"] | None = None
    paging: Paging = Paging()
    records: str | None = None  # path of the list in an answer; None: the answer is the list
    params: dict[str, str | int | float | bool] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    auth: Auth | None = None
    optional: tuple[str, ...] = ()  # columns that may be absent from every record
    timeout: float | None = Field(default=None, gt=0)  # seconds: of a query, of an answer
    attempts: int = Field(default=5, ge=1, le=20)
    backoff: float = Field(default=1.0, gt=0)  # seconds before the second attempt; then doubled
    max_wait: float = Field(default=120, gt=0)  # seconds that a server may make us wait
    per_second: float | None = Field(default=None, gt=0)  # requests

    @field_validator("http")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if not url.startswith(("https://", "http://", "${")):
            raise ValueError(f"'{url}' is not an address; begin with https://")
        if "@" in urlsplit(url).netloc:
            raise ValueError("user or password in the address; write them under 'auth'")
        if "?" in url:
            raise ValueError("parameters in the address; write them under 'params'")
        return url

    @field_validator("sql")
    @classmethod
    def _database(cls, url: str | None) -> str | None:
        if url is None or url.startswith("${"):
            return url
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SQL_SCHEMES:
            known = ", ".join(SQL_SCHEMES)
            raise ValueError(f"'{scheme}' is no database this can read; begin with one of {known}")
        user, _, _ = rest.partition("/")[0].rpartition("@")
        secrets = [user.partition(":")[2]] + [
            value for key, value in parse_qsl(urlsplit(url).query) if "pass" in key.lower()
        ]
        if not all(is_from_environment(secret) for secret in secrets):
            raise ValueError(f"{_WRITTEN_SECRET}; {_FROM_ENVIRONMENT}")
        return url

    @field_validator("headers")
    @classmethod
    def _no_credentials(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in ("authorization", "proxy-authorization", "cookie"):
                raise ValueError(f"'{name}' is a credential; write it under 'auth'")
        return headers

    @field_validator("params")
    @classmethod
    def _no_variables(cls, params: dict[str, object]) -> dict[str, object]:
        for name, value in params.items():
            if variables_of(str(value)):
                raise ValueError(
                    f"an environment variable in '{name}': servers and proxies log parameters; "
                    "write a secret under 'auth', as a header"
                )
        return params

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: object) -> object:
        """Add what the preset says and the file does not."""
        if not isinstance(data, dict):
            return data
        preset = _PRESETS.get(str(data.get("preset")))
        if preset is None:
            return data
        merged = {**preset, **data}
        for key in ("paging", "params"):
            own, given = preset.get(key, {}), data.get(key, {})
            if isinstance(own, Mapping) and isinstance(given, dict):
                merged[key] = {**own, **given}
        return merged

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [form for form in get_args(Format) if self._place(form) is not None]
        if len(given) != 1:
            listed = ", ".join(f"'{form}'" for form in get_args(Format)[:-1])
            raise ValueError(f"give exactly one of {listed} and '{get_args(Format)[-1]}'")
        form = given[0]
        own = self.model_fields_set - {form, "json_"}
        for key in sorted(own - _KEYS[form]):
            of = ", ".join(name for name, keys in _KEYS.items() if key in keys)
            raise ValueError(f"'{key}' means nothing to '{form}'; it is a key of {of}")
        if form == "sql" and (self.query is None) == (self.table is None):
            raise ValueError("give one of 'query' and 'table'")
        if self.preset == "zendesk" and self.records is None:
            raise ValueError("name the list of the answer; add 'records: tickets' or the like")
        return self

    @property
    def format(self) -> Format:
        """Which of the six forms this is."""
        forms: tuple[Format, ...] = get_args(Format)
        return next(form for form in forms if self._place(form) is not None)

    @property
    def path(self) -> str:
        """The file, database or address as it is written, variables not filled in."""
        return self._place(self.format) or ""

    @property
    def is_file(self) -> bool:
        return self.format in FILE_FORMATS

    def _place(self, form: str) -> str | None:
        place: str | None = getattr(self, "json_" if form == "json" else form)
        return place


class Incremental(Definition):
    """Pull only what changed since the last pull that was accepted."""

    cursor: Expression  # grows with every change of a row
    overlap: int | float | str  # how far to reach back: `2h` (the cursor is a time), or a number
    start: Annotated[str, BeforeValidator(str)] | None = (
        None  # what {cursor} stands for in a full pull of an HTTP source
    )

    @field_validator("overlap")
    @classmethod
    def _amount(cls, overlap: int | float | str) -> int | float | str:
        if isinstance(overlap, str):
            if not re.fullmatch(r"\d+[smhd]", overlap):
                remedy = "write 30m, 2h or 3d for a time, 0 or more for a number"
                raise ValueError(f"'{overlap}' is neither a duration nor a number; {remedy}")
        elif overlap < 0:
            raise ValueError("a negative overlap would leave rows out; write 0 or more")
        return overlap

    @property
    def is_time(self) -> bool:
        """Whether the cursor is a time; otherwise it is a number."""
        return isinstance(self.overlap, str)
