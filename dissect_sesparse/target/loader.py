"""``sesparse://vm.vmx?view=residual&state=before patch``: options for the disks of any target, and the state to show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from dissect.target.helpers.fsutil import TargetPath
from dissect.target.loader import Loader

from dissect_sesparse.source.errors import OptionError
from dissect_sesparse.source.options import OPTION_NAMES, Options
from dissect_sesparse.target.context import SCHEME, URI_OPTIONS
from dissect_sesparse.target.loaders import loader_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import ParseResult

    from dissect.target.target import Target

_QUERY = re.compile(rf"\?(?=(?:{'|'.join(OPTION_NAMES)})=)")
"""Where the query of a URI starts: names of files and of states may have a question mark too."""


class SESparseLoader(Loader):
    """Open a target with options for its seSparse disks, given as the query of a ``sesparse://`` URI.

    It finds the loader that the path alone would have, and hands the options to every seSparse disk that loader opens.
    With ``state`` the target is the machine as a snapshot or a link froze it, as its child of that name is.
    """

    def __init__(self, path: Path, *, parsed_path: ParseResult | None = None, **kwargs):
        path, _ = uri = _uri_of(path, parsed_path)
        super().__init__(path, parsed_path=parsed_path, **kwargs)
        options = uri.options
        Options.collect(options)  # a wrong option is refused before anything is opened
        self.state = options.pop("state", None)
        self.options: Mapping[str, str] = options
        with_options = URI_OPTIONS.set(self.options)
        try:
            self.loader = loader_at(path)(path)
        finally:
            URI_OPTIONS.reset(with_options)

    @staticmethod
    def detect(path: Path) -> bool:
        return _in_path(path) is not None  # a URI comes by its scheme

    @staticmethod
    def find_all(path: Path, parsed_path: ParseResult | None = None) -> Iterator[str | Path]:
        path, _ = _uri_of(path, parsed_path)
        try:
            found = loader_at(path)
        except Exception:
            yield path  # an error here would end the opening of all targets: the constructor says it again
            return
        yield from found.find_all(path)

    def map(self, target: Target) -> None:
        with_options = URI_OPTIONS.set(self.options)
        try:
            if self.state is None:
                self.loader.map(target)
            else:
                self._map_state(target, self.state)
        finally:
            URI_OPTIONS.reset(with_options)

    def _map_state(self, target: Target, name: str) -> None:
        from dissect.target.target import Target as AnyTarget  # it imports this module

        from dissect_sesparse.target.child import map_state
        from dissect_sesparse.target.machine import frozen_state_named

        running: Any = AnyTarget(target.path)
        self.loader.map(running)
        try:
            state = frozen_state_named(running, name)
        except OptionError as e:
            target.log.error("%s", e)  # noqa: TRY400  # dissect only says that it failed
            raise
        if state is None:  # the machine as it runs
            self.loader.map(target)
        else:
            map_state(target, running, state)


class _Uri(NamedTuple):
    """What a ``sesparse://`` URI says."""

    path: Path
    query: str

    @property
    def options(self) -> dict[str, str]:
        """The query.

        Raises:
            OptionError: If it has a key twice: which of two values counts is not for us to choose.
        """
        options: dict[str, str] = {}
        for pair in filter(None, self.query.split("&")):
            name, _, value = pair.partition("=")
            name, value = unquote(name), unquote(value)
            if name in options:
                raise OptionError("given twice", field=f"option {name}", value=value, expected="each option once")
            options[name] = value
        return options


def _uri_of(path: Path, parsed_path: ParseResult | None) -> _Uri:
    """The URI that dissect has taken apart, or has made a path of; else a path without options."""
    if parsed_path is None:
        return _in_path(path) or _Uri(path, "")
    found = _split(_text_of(parsed_path), parsed_path.query)
    if path != Path(parsed_path.netloc + parsed_path.path).expanduser():
        return found._replace(path=path)  # what find_all gave
    return found if _is_there(found.path) else found._replace(path=path)


def _text_of(parsed_path: ParseResult) -> str:
    """What stands behind the scheme: a ``#`` is a character like any other."""
    parameters = f";{parsed_path.params}" if parsed_path.params else ""
    query = f"?{parsed_path.query}" if parsed_path.query else ""
    fragment = f"#{parsed_path.fragment}" if parsed_path.fragment else ""
    return f"{parsed_path.netloc}{parsed_path.path}{parameters}{query}{fragment}"


def _split(text: str, query: str = "") -> _Uri:
    """Path and query of what stands behind the scheme.

    Args:
        text: That.
        query: What to take for the query where no option is known in it, so that it is refused.
    """
    path, *options = _QUERY.split(text, maxsplit=1)
    whole = Path(path).expanduser()
    return _Uri(whole, options[0] if options else "" if _is_there(whole) else query)


def _in_path(path: Path) -> _Uri | None:
    """The URI that ``target-fs`` makes a path of, which leaves one slash of two; ``None`` where it is none."""
    if not isinstance(path, Path) or isinstance(path, TargetPath) or path.parts[:1] != (f"{SCHEME}:",):
        return None
    text = "/".join(path.parts[1:])
    found = (_split(root + text) for root in ("/", ""))
    return next((uri for uri in found if not _is_there(path) and _is_there(uri.path)), None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
