"""The table of calls: each handler registers itself with @route."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable
from urllib.parse import unquote

CONTROL = '/v1/test_helpers/stand_in/'


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern
    parameters: dict
    updating: bool
    locked: bool
    # Handlers take the account, the checked parameters and the ids of the path.
    handler: Callable


ROUTES: list[Route] = []


def route(method: str, path: str, parameters: dict, *, updating: bool = False, locked: bool = True):
    """Register a handler; `{}` in the path is an id.  Handlers that wait must not be locked."""
    pattern = re.compile(re.escape(path).replace(r'\{\}', '([^/]+)'))

    def register(handler: Callable) -> Callable:
        ROUTES.append(Route(method, pattern, parameters, updating, locked, handler))
        return handler
    return register


def find(method: str, path: str) -> tuple[Route, list[str]] | None:
    """The route for a request and the ids in its path."""
    for candidate in ROUTES:
        match = candidate.pattern.fullmatch(path)
        if match and candidate.method == method:
            return candidate, [unquote(part) for part in match.groups()]
    return None
