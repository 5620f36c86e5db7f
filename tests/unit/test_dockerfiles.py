"""What the images' Dockerfiles share is the same text, or Docker makes it twice."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).parents[2] / "images"


def shared(image: str) -> str:
    """The stages that are to be the same, with the name of the next."""
    text = (IMAGES / image / "Dockerfile").read_text()
    return text[text.index("FROM $BASE AS python\n") : text.index("FROM tools AS build\n")]


def test_operator_and_runtime_begin_alike():
    assert "python3-pip" in shared("operator")
    assert shared("operator") == shared("runtime")
