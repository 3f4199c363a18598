"""The ``.vmx`` of a VM: its name and its disks, in the order of their controllers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dissect_sesparse.vm.snapshots import unescape

CONTROLLERS = ("ide", "scsi", "sata", "nvme")
"""In the order in which a BIOS looks at them."""

_LINE = re.compile(r'^[ \t]*([\w.:]+)[ \t]*=[ \t]*(?:"([^"\r\n]*)"?|([^\r\n]*))', re.MULTILINE)
_DEVICE = re.compile(rf"({'|'.join(CONTROLLERS)})(\d{{1,3}}):(\d{{1,3}})\.(\w+)")
_NO_DISK = (".iso", ".flp", ".img")


@dataclass(frozen=True)
class VmDisk:
    """A disk of a VM: where it is attached (``scsi0:1``), and the name of its newest descriptor as it is written."""

    node: str
    filename: str
    present: bool = True
    """Whether the VM has it plugged in."""


@dataclass(frozen=True)
class VirtualMachine:
    """What a ``.vmx`` says."""

    name: str
    disks: tuple[VmDisk, ...]


def parse_vmx(text: str) -> VirtualMachine:
    """The VM of a configuration. What is no disk is left out."""
    values: dict[str, str] = {}
    for name, quoted, bare in _LINE.findall(text):
        values[name.lower()] = unescape(quoted or bare.strip())
    devices: dict[tuple[int, int, int], dict[str, str]] = {}
    for name, value in values.items():
        if match := _DEVICE.fullmatch(name):
            place = (CONTROLLERS.index(match[1]), int(match[2]), int(match[3]))
            devices.setdefault(place, {})[match[4]] = value
    disks = [
        VmDisk(f"{CONTROLLERS[kind]}{bus}:{unit}", device["filename"], device.get("present", "true").lower() != "false")
        for (kind, bus, unit), device in sorted(devices.items())
        if _is_disk(device)
    ]
    return VirtualMachine(values.get("displayname", ""), tuple(disks))


def _is_disk(device: dict[str, str]) -> bool:
    name, kind = device.get("filename", ""), device.get("devicetype", "disk").lower()
    return bool(name) and "disk" in kind and not name.lower().endswith(_NO_DISK)
