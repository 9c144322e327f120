from __future__ import annotations

from pathlib import Path

from PIL import Image

from hpo.data.splits.split_picture import picture_of, save_picture
from hpo.data.splits.splits import Distribution, LabelShares

SHARES = (LabelShares("Drama", 50, 0.5, 0.51, 0.49, 0.47), LabelShares("Comedy", 20, 0.2, 0.2, 0.2, 0.21))
DISTRIBUTION = Distribution({"train": 80, "val": 10, "test": 10}, SHARES)


def test_every_share_is_drawn():
    axes = picture_of(DISTRIBUTION).axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
    assert drawn == {"train (80)": [51.0, 20.0], "val (10)": [49.0, 20.0], "test (10)": [47.0, 21.0]}
    assert [bar.get_width() for bar in axes.patches] == [50.0, 20.0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Drama (50)", "Comedy (20)"]
    assert "3.00 percentage points" in axes.get_title(loc="left")


def test_it_is_written_as_a_png(tmp_path: Path):
    save_picture(DISTRIBUTION, tmp_path / "new" / "split.png")
    with Image.open(tmp_path / "new" / "split.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
