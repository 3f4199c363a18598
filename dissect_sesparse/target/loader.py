"""``sesparse://vm.vmx?view=residual``: options for the disks of any target."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from dissect.target.loader import Loader

from dissect_sesparse.source.errors import OptionError
from dissect_sesparse.source.options import Options
from dissect_sesparse.target.context import URI_OPTIONS
from dissect_sesparse.target.loaders import loader_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from urllib.parse import ParseResult

    from dissect.target.target import Target


class SESparseLoader(Loader):
    """Open a target with options for its seSparse disks, given as the query of a ``sesparse://`` URI.

    It finds the loader that the path alone would have, and hands the options to every seSparse disk that loader opens.
    """

    def __init__(self, path: Path, *, parsed_path: ParseResult | None = None, **kwargs):
        super().__init__(path, parsed_path=parsed_path, **kwargs)
        self.options: Mapping[str, str] = _options_of(parsed_path)
        Options.collect(self.options)  # a wrong option is refused before anything is opened
        with_options = URI_OPTIONS.set(self.options)
        try:
            self.loader = loader_at(path)(path)
        finally:
            URI_OPTIONS.reset(with_options)

    @staticmethod
    def detect(path: Path) -> bool:
        return False  # only by its scheme

    @staticmethod
    def find_all(path: Path, parsed_path: ParseResult | None = None) -> Iterator[str | Path]:
        try:
            found = loader_at(path)
        except Exception:
            yield path  # an error here would end the opening of all targets: the constructor says it again
            return
        yield from found.find_all(path)

    def map(self, target: Target) -> None:
        with_options = URI_OPTIONS.set(self.options)
        try:
            self.loader.map(target)
        finally:
            URI_OPTIONS.reset(with_options)


def _options_of(parsed_path: ParseResult | None) -> dict[str, str]:
    """The query of a URI.

    Raises:
        OptionError: If it has a key twice: which of two values counts is not for us to choose.
    """
    pairs = parse_qsl(parsed_path.query, keep_blank_values=True) if parsed_path is not None else []
    options: dict[str, str] = {}
    for name, value in pairs:
        if name in options:
            raise OptionError("given twice", field=f"option {name}", value=value, expected="each option once")
        options[name] = value
    return options
