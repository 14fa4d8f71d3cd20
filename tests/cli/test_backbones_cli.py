"""`vit-explorer backbones`: names that other programs can read."""

import pytest

from explorer import list_backbones
from explorer.cli.main import main


def test_names_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones"]) == 0
    assert capsys.readouterr().out.splitlines() == list_backbones()
    assert main(["backbones", "*dinov2*", "--pretrained"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert "vit_small_patch14_dinov2.lvd142m" in names
    assert all("dinov2" in name for name in names)


def test_a_pattern_that_fits_nothing_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "dinov2"]) == 2
    assert capsys.readouterr().err == (
        "vit-explorer: no backbone is called 'dinov2'; a pattern has stars around its word: \"*dinov2*\"\n"
    )
