"""What was told of a VM, put together: one file of JSON lines and one of Parquet for each function.

Lines are streamed from the files of the pieces, so memory does not depend on how many there are.
"""

from __future__ import annotations

import json
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect_sesparse.fleet.data import Done, Survey
from dissect_sesparse.fleet.folder import FORMATS, FleetFolder, write_whole
from dissect_sesparse.source.folder import exists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from dissect_sesparse.fleet.data import Settings, Share, Vm

_ROWS = 16384
"""Of a row group."""
_INT64 = range(-(1 << 63), 1 << 63)
TOO_LARGE = "too_large"
"""A column for what Parquet has no number for: places of 2**63 and more, which only corrupt entries name, as JSON."""


def collect(settings: Settings, vm: Vm, survey: Survey, results: Mapping[int, Done | str]) -> dict[str, Any]:
    """Write the files of a VM, and keep its row.

    Args:
        settings: Of the run.
        vm: The VM.
        survey: What the first look told.
        results: What each task did, by its number; of one that failed, why.
    """
    folder = FleetFolder.of(settings)
    folder.forget(vm)
    spool = folder.spool(vm)
    errors, counts = list(survey.errors), {}
    ready: list[tuple[Path, Path]] = []
    for function in settings.functions:
        pieces, count, problems = _pieces(survey, results, function)
        errors += problems
        counts[f"{function}_records"] = count
        files = [spool / piece.file for piece in pieces]
        for kind, suffix in FORMATS.items():
            temporary = spool / f"{function}{suffix}"
            (_write_lines if kind == "jsonl" else _write_parquet)(temporary, files, function)
            ready.append((temporary, folder.output(kind, function, vm)))
    for temporary, path in ready:
        folder.publish(temporary, *path.relative_to(folder.path).parts)
    state = "done" if survey.disks else "skipped"
    if errors:
        state = "incomplete" if survey.disks else "failed"
    row = row_of(settings, vm, state, errors, survey) | counts
    row["warnings"] = [
        text for _, done in sorted(results.items()) if not isinstance(done, str) for text in done.warnings
    ]
    return folder.keep(vm, row, survey.inputs)


def row_of(
    settings: Settings, vm: Vm, state: str, errors: Sequence[str], survey: Survey | None = None
) -> dict[str, Any]:
    """What the table of all VMs says of one."""
    survey = survey or Survey()
    return {
        "vm": vm.name,
        "path": vm.path,
        "inside": vm.inside,
        "hostname": survey.names[0],
        "domain": survey.names[1],
        "state": state,
        "errors": list(errors),
        "warnings": [],
        "skipped": list(survey.skipped),
        "disks": len(survey.disks),
        **{f"{function}_records": 0 for function in settings.functions},
    }


def _pieces(survey: Survey, results: Mapping[int, Done | str], function: str) -> tuple[list[Share], int, list[str]]:
    """The pieces of a function in the order of the disks, how many records they have, and what is missing.

    What follows on a disk after something that is missing is left out, as if the disk had not been cut.
    """
    pieces, count, errors = [], 0, []
    broken: set[int] = set()
    found = [(piece, results[number]) for number, task in enumerate(survey.tasks) for piece in task]
    for piece, result in sorted(found, key=lambda pair: (pair[0].disk, pair[0].number)):
        if piece.function != function or piece.disk in broken:
            continue
        error = result if isinstance(result, str) else result.errors.get(piece.file)
        if error is not None:
            broken.add(piece.disk)
            errors.append(f"{survey.disks[piece.disk]}: not all of {function} is told: {error}")
        if not isinstance(result, str):
            pieces.append(piece)
            count += result.records[piece.file]
    return pieces, count, errors


def _write_lines(path: Path, files: Iterable[Path], function: str) -> None:
    with write_whole(path) as fh:
        for file in files:
            with file.open("rb") as lines:
                while chunk := lines.read(1 << 20):
                    fh.write(chunk)


def _write_parquet(path: Path, files: Iterable[Path], function: str) -> None:
    write_table(path, schema_of(function), (json.loads(line) for file in files for line in _lines(file)))


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as fh:
        yield from fh


# Parquet


def schema_of(function: str) -> pa.Schema:
    """The columns of a function's records: its fields, the VM before and what is too large behind."""
    import pyarrow as pa

    from dissect_sesparse.target.disk_records import DESCRIPTORS

    fields = [(name, _type(kind)) for kind, name in DESCRIPTORS[function].get_field_tuples()]
    return pa.schema([("vm", pa.string()), *fields, (TOO_LARGE, pa.string())])


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa

    if kind.endswith("[]"):
        return pa.list_(_type(kind[:-2]))
    if kind == "digest":
        return pa.struct([(name, pa.string()) for name in ("md5", "sha1", "sha256")])
    return {
        "varint": pa.int64(),
        "filesize": pa.int64(),
        "float": pa.float64(),
        "datetime": pa.timestamp("us", tz="UTC"),
    }.get(kind, pa.string())


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as Parquet, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    rows = iter(rows)
    with write_whole(path) as fh, pq.ParquetWriter(fh, schema, compression="zstd") as writer:
        while batch := [_cells(row, times) for row in islice(rows, _ROWS)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _cells(row: Mapping[str, Any], times: Iterable[str]) -> dict[str, Any]:
    cells = dict(row)
    for name in times:
        if cells[name] is not None:
            cells[name] = datetime.fromisoformat(cells[name])
    if large := {name: value for name, value in row.items() if isinstance(value, int) and value not in _INT64}:
        cells |= dict.fromkeys(large) | {TOO_LARGE: json.dumps(large)}
    return cells


GONE = "gone"
"""The state of a row whose VM is not there any more: its records are those of an earlier run."""


def write_vms(
    folder: FleetFolder, functions: Sequence[str], named: Iterable[tuple[str, str | None]] = ()
) -> list[dict[str, Any]]:
    """Write the table of all VMs of a folder, in the order of their paths. Its rows.

    Args:
        folder: The folder.
        functions: Of the run.
        named: The VMs of this run: path, and ``.vmx`` in an archive. Rows of others say that they are of an earlier one.
    """
    import pyarrow as pa

    here = set(named)
    rows = [_marked(state["row"], here) for state in folder.states().values()]
    rows.sort(key=lambda row: (row["path"], row["inside"] or ""))
    text, texts = pa.string(), pa.list_(pa.string())
    columns = {"vm": text, "path": text, "inside": text, "hostname": text, "domain": text, "state": text}
    columns |= {"errors": texts, "warnings": texts, "skipped": texts, "disks": pa.int64()}
    columns |= {f"{function}_records": pa.int64() for function in functions}
    columns |= {"finished": pa.timestamp("us", tz="UTC"), "in_last_run": pa.bool_()}
    lines = folder.parts / "vms.jsonl"
    with write_whole(lines) as fh:
        fh.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    write_table(folder.parts / "vms.parquet", pa.schema(list(columns.items())), rows)
    for name in ("vms.jsonl", "vms.parquet"):
        folder.publish(folder.parts / name, name)
    return rows


def _marked(row: Mapping[str, Any], named: set[tuple[str, str | None]]) -> dict[str, Any]:
    """A row that says whether its VM was in this run, and whether it is there at all."""
    key = row["path"], row["inside"]
    marked = {**row, "in_last_run": key in named}
    if key not in named and not _is_there(*key):
        marked["state"] = GONE
        marked["errors"] = [*row["errors"], "it is not there any more: these are the records of an earlier run"]
    return marked


def _is_there(path: str, inside: str | None) -> bool:
    from dissect_sesparse.target.vm import configurations

    if inside is None:
        return exists(Path(path))
    try:
        return any(str(vmx) == inside for vmx in configurations(Path(path)))
    except Exception:  # an archive that cannot be read: then none in it can be had
        return False
