"""Turn the text of a definition file into a frozen object, or into faults with place and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sqm.errors import Fault

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed definition file, with the line of each key."""

    file: str
    data: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def fault(self, place: Place, problem: str, remedy: str) -> Fault:
        """A fault at that key, or at the nearest key around it that is written in the file."""
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        key = ".".join(str(part) for part in place)
        return Fault(self.file, self.lines.get(known, 0), key, problem, remedy)


def nearest(word: str, known: Iterable[str]) -> str:
    """A remedy that names the nearest known word, or all of them when none is near."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(choices)


def counted(number: int, noun: str) -> str:
    """`1 KPI`, `2 KPIs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# libyaml, many times faster, where PyYAML was built with it
_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


MAX_DEPTH = 50  # keys and lists inside one another
MAX_NODES = 100_000  # values in one file, those of an alias each time it is used


class _Loader(_Base):  # type: ignore[valid-type,misc]  # one of two classes of one interface
    """YAML 1.1 without duplicate keys, and without `yes`, `no`, `on`, `off` as booleans."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            # PyYAML takes `2026-99-99` for a date and lets the date complain, without a line
            kind = node.tag.rpartition(":")[2]
            problem = f"{_shown(node.value)} looks like a {kind} and is none"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def parse_document(file: str, text: str | bytes) -> Document | Fault:
    """Parse YAML; a syntax error, a duplicated key or broken encoding becomes a fault."""
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        loader = _Loader(decoded)
        node = loader.get_single_node()
        if node is None:
            return Fault(file, 0, "", "the file is empty", "write a definition or delete the file")
        lines: dict[Place, int] = {}
        if not _is_modest(node):
            problem = f"more than {MAX_DEPTH} levels or {MAX_NODES:,} values, aliases written out"
            return Fault(file, 0, "", problem, "write it flatter and with fewer aliases")
        duplicate = _index_lines(node, (), lines)
        if duplicate:
            key = ".".join(str(part) for part in duplicate)
            line = lines[duplicate]
            return Fault(file, line, key, "the key is written twice", "keep one of them")
        data = loader.construct_document(node)
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte {error.start})"
        return Fault(file, 0, "", problem, "save the file as UTF-8")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = f"not valid YAML: {error.problem or error.context}"
        return Fault(file, line, "", problem, "correct the syntax; indent with spaces")
    except RecursionError:
        return Fault(file, 0, "", "nested too deeply to be read", "write it flatter")
    except yaml.YAMLError as error:
        problem = f"not valid YAML: {str(error).splitlines()[0]}"
        return Fault(file, 0, "", problem, "correct the syntax")
    if not isinstance(data, dict):
        return Fault(file, 1, "", "not a mapping of keys to values", "write `key: value` lines")
    return Document(file, data, lines)


def build(model: type[M], document: Document) -> M | list[Fault]:
    """The object that the document describes, or every mistake in it."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        return [_translate(model, document, detail) for detail in error.errors()]


def _is_modest(node: yaml.Node) -> bool:
    """Whether the document has a size that a person could mean; an alias may hold itself."""
    waiting: list[tuple[yaml.Node, int]] = [(node, 0)]
    nodes = 0
    while waiting:
        current, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            return False
        if isinstance(current, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in current.value for part in pair]
        elif isinstance(current, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in current.value]
    return True


def _index_lines(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Place | None:
    """Note the line of every key below `node`; the place of the first duplicated key, if any."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*place, str(key.value))
            is_duplicate = below in lines
            lines[below] = key.start_mark.line + 1
            found = below if is_duplicate else _index_lines(value, below, lines)
            if found:
                return found
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            found = _index_lines(value, (*place, index), lines)
            if found:
                return found
    return None


def _translate(model: type[BaseModel], document: Document, detail: Any) -> Fault:
    """One pydantic finding in the words of the person who wrote the file."""
    place: Place = tuple(part for part in detail["loc"] if not str(part).startswith("["))
    given = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            if given is None and " " in str(place[-1]):
                problem = f"a text was cut at its comma, before '{place[-1]}'"
                return document.fault(place, problem, "put the whole text into quotes")
            known = _keys(_model_at(model, place[:-1]))
            return document.fault(
                place, f"unknown key '{place[-1]}'", nearest(str(place[-1]), known)
            )
        case "missing":
            return document.fault(place, "this key is required", f"add '{place[-1]}: ...'")
        case "enum" | "literal_error":
            expected = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
            remedy = nearest(str(given), expected.split(", "))
            return document.fault(place, f"'{given}' is not allowed", remedy)
        case "value_error":
            problem, _, remedy = str(detail["ctx"]["error"]).partition("; ")
            return document.fault(place, problem, remedy or "correct the value")
        case "string_pattern_mismatch":
            pattern = detail["ctx"]["pattern"]
            return document.fault(
                place, f"'{given}' has the wrong form", f"it must match {pattern}"
            )
    problem = detail["msg"].removeprefix("Input ").removeprefix("should ")
    return document.fault(place, f"{_shown(given)} is wrong", f"it should {problem}")


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_at(model: type[BaseModel], place: Sequence[Hashable]) -> type[BaseModel] | None:
    """The model that describes what stands at `place` below `model`."""
    current: type[BaseModel] | None = model
    for part in place:
        if current is None:
            return None
        by_key = {info.alias or name: info for name, info in current.model_fields.items()}
        if part in by_key:
            current = _model_in(by_key[str(part)].annotation) or current
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model inside an annotation such as `dict[str, Source]` or `Alert | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found:
            return found
    return None
