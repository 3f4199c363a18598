"""What the old bytes of an unmapped run can be. By itself, for those who only name the states and load nothing else."""

from __future__ import annotations

STATES = ("present", "empty", "reused", "missing", "contested", "ambiguous")
