"""``sesparse://vm.vmx?view=residual``: options for the disks of any target."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dissect.target import loader
from dissect.target.loader import Loader

from dissect_sesparse.disk.errors import FileError
from dissect_sesparse.disk.options import Options
from dissect_sesparse.target.context import URI_OPTIONS

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
        self.options: Mapping[str, str] = self.parsed_query
        Options.collect(self.options)  # a wrong option is told before anything is opened
        with_options = URI_OPTIONS.set(self.options)
        try:
            self.loader = _loader_of(path)(path)
        finally:
            URI_OPTIONS.reset(with_options)

    @staticmethod
    def detect(path: Path) -> bool:
        return False  # only by its scheme

    @staticmethod
    def find_all(path: Path, parsed_path: ParseResult | None = None) -> Iterator[str | Path]:
        try:
            found = _loader_of(path)
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


def _loader_of(path: Path) -> type[Loader]:
    """The loader that dissect would take for the path.

    Raises:
        FileError: If there is none.
    """
    found = loader.find_loader(path, fallbacks=cast("list[type[Loader]]", [loader.DirLoader, loader.RawLoader]))
    if found is None:
        raise FileError("no loader opens this", file=path, expected="a .vmx, a descriptor, an extent or another target")
    return found
