"""Loaded by each worker process of the local cluster when it starts: Ctrl-C is for the command, which ends its workers."""

from __future__ import annotations

import signal
from threading import current_thread, main_thread

if current_thread() is main_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
