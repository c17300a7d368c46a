"""Releases write some thirty files each, and wait for the disk at every one: here nobody pulls the plug."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a power cut does to files is not what these tests are about.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
