from __future__ import annotations

import errno
import warnings
from pathlib import Path

import pytest
from PIL import Image

from hpo.data.splits import split as split_picture
from hpo.data.splits.split import Distribution, LabelShares, picture_of, save_picture
from hpo.errors import DataError

SHARES = (LabelShares("Drama", 50, 0.5, 0.51, 0.49, 0.47), LabelShares("Comedy", 20, 0.2, 0.2, 0.2, 0.21))
DISTRIBUTION = Distribution({"train": 80, "val": 10, "test": 10}, SHARES)


def test_every_share_is_drawn():
    axes = picture_of(DISTRIBUTION).axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
    assert drawn == {"train (80)": [51.0, 20.0], "val (10)": [49.0, 20.0], "test (10)": [47.0, 21.0]}
    assert [bar.get_width() for bar in axes.patches] == [50.0, 20.0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Drama (50)", "Comedy (20)"]
    assert "3.00 percentage points" in axes.get_title(loc="left")


HOSTILE = ["$x^$", "$", "$$", "\\$1", "a_{b", "$\\frac{1}$", "\ud800x", "\x00\x1b[31m", "動作 アニメ", "عربى", "😀",
           "<b>&", "%", "x" * 400, "two\nlines", " ", "_hidden"]  # fmt: skip


@pytest.mark.parametrize("label", HOSTILE)
def test_a6_f26_any_label_is_drawn_as_it_is_written_and_without_a_warning(tmp_path: Path, label: str, capfd):
    shares = (LabelShares(label, 50, 0.5, 0.51, 0.49, 0.47), *SHARES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_picture(Distribution(DISTRIBUTION.sizes, shares), tmp_path / "split.png")
    with Image.open(tmp_path / "split.png") as image:
        assert image.format == "PNG"
    assert capfd.readouterr() == ("", "")


def test_a6_more_labels_than_a_picture_can_hold(tmp_path: Path):
    shares = tuple(LabelShares(f"label {at}", 2000 - at, 0.1, 0.1, 0.1, 0.1) for at in range(2000))
    save_picture(Distribution(DISTRIBUTION.sizes, shares), tmp_path / "split.png")
    axes = picture_of(Distribution(DISTRIBUTION.sizes, shares)).axes[0]
    assert axes.get_title(loc="left").startswith("The 200 commonest labels by part")


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make the place writable")]
)
def test_f25_the_cure_is_that_of_the_fault(tmp_path: Path, monkeypatch, number: int, fix: str):
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(split_picture, "write_whole", refuse)
    with pytest.raises(DataError, match=rf": {fix}$"):
        save_picture(DISTRIBUTION, tmp_path / "split.png")


def test_it_is_written_as_a_png(tmp_path: Path):
    save_picture(DISTRIBUTION, tmp_path / "new" / "split.png")
    with Image.open(tmp_path / "new" / "split.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
