"""The gallery: what is written, as a parser reads it, and what a person sees and does, in a real browser."""

from __future__ import annotations

import base64
import io
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageCms

from hpo.errors import DataError
from hpo.report.gallery import GalleryEntry, GalleryModel, check_replaceable, draw_evidence, write_gallery
from tests.browser import Browser, browse

REPOSITORY = Path(__file__).resolve().parents[2]
BEST = GalleryModel("best", ("Drama", "Comedy", "Action"), (0.5, 0.5, 0.5))
ENSEMBLE = GalleryModel("ensemble", ("Drama", "Comedy", "Action", "Western"), (0.5, 0.5, 0.5, 0.5), min_labels=1)
PHONE = 360


def draw(folder: Path, name: str = "poster.jpg", size: tuple[int, int] = (40, 60), **options: Any) -> Path:
    """A poster of noise, which compresses worse than any real one."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(folder / name, **options)
    return folder / name


def entry(image: Path, title: str, truth: set[str] | None, *said: tuple[GalleryModel, set[str]]) -> GalleryEntry:
    """What is predicted has the probability 0.8, all else 0.2."""
    return GalleryEntry(
        image,
        title,
        tuple(np.array([0.8 if name in labels else 0.2 for name in model.label_names]) for model, labels in said),
        tuple(tuple(name for name in model.label_names if name in labels) for model, labels in said),
        None if truth is None else frozenset(truth),
    )


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str]
    text: list[str]  # what stands in it, in pieces

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class Parsed(HTMLParser):
    """All elements of a page, in its order."""

    VOID = ("meta", "link", "input", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text.append(data)

    def all(self, tag: str, *classes: str) -> list[Element]:
        return [found for found in self.elements if found.tag == tag and {*classes} <= {*found.classes}]

    def texts(self, tag: str, *classes: str) -> list[str]:
        return ["".join(found.text).strip() for found in self.all(tag, *classes)]


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "pages" / "gallery.html"


def write(out: Path, models: list[GalleryModel], *entries: GalleryEntry, **options: Any) -> Parsed:
    write_gallery(out, models, entries, **options)
    return Parsed(out.read_text(encoding="utf-8"))


def picture(page: Parsed, at: int = 0) -> tuple[Image.Image, bytes]:
    source = page.all("img")[at].attributes["src"]
    content = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"), validate=True)
    return Image.open(io.BytesIO(content)), content


def test_markup_in_titles_genres_and_names_comes_out_as_text(tmp_path, out):
    title, genre, name = "<script>alert(1)</script> \"x\" & 'y'", '<b>Dra"ma</b>', "<i>best</i>"
    model = GalleryModel(name, (genre, "Comedy"), (0.5, 0.5))
    page = write(out, [model], entry(draw(tmp_path), title, {genre}, (model, {genre})))
    assert len(page.all("script")) == 1
    assert not page.all("b") + page.all("i")
    assert page.texts("h2") == [title]
    assert page.all("img")[0].attributes["alt"] == f"Poster of {title}"
    assert genre in page.texts("span", "genre")
    assert genre in [option.attributes["value"] for option in page.all("option")]
    assert page.texts("h3") == [name]


def test_a_title_of_no_unicode_and_none_at_all(tmp_path, out):
    page = write(out, [BEST], entry(draw(tmp_path), "caf\udce9", None), entry(draw(tmp_path), " ", None))
    assert page.texts("h2") == ["caf?", "poster.jpg"]


def test_an_existing_page_is_replaced_by_force_alone(tmp_path, out):
    write(out, [BEST])
    out.write_text("mine")
    with pytest.raises(DataError, match=r"gallery\.html exists already: give --force"):
        write(out, [BEST])
    assert out.read_text() == "mine"
    write(out, [BEST], force=True)
    assert out.read_text().startswith("<!doctype html>")
    for force in (False, True):
        with pytest.raises(DataError, match="Expected a file"):
            check_replaceable(tmp_path, force=force)


def test_nothing_half_written_remains(tmp_path, out):
    def interrupted() -> Iterator[GalleryEntry]:
        yield entry(poster, "A", None)
        assert [file.suffix for file in out.parent.iterdir()] == [".tmp"]
        raise KeyboardInterrupt

    poster = draw(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_gallery(out, [BEST], interrupted())
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["file/gallery.html", f"{'x' * 300}.html"])
def test_where_nothing_can_be_written_is_said(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be written"):
        write_gallery(tmp_path / name, [BEST], [])


def test_the_page_may_be_read_by_others_as_any_new_file(tmp_path, out):
    write(out, [BEST])
    (tmp_path / "other").touch()
    assert out.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1200, 1800), (240, 360)),
        ((1200, 300), (240, 60)),
        ((300, 2400), (45, 360)),
        ((500, 500), (240, 240)),
        ((40, 60), (240, 360)),
    ],
)
def test_pictures_are_bounded_and_keep_their_proportions(tmp_path, out, size, expected):
    poster, content = picture(write(out, [BEST], entry(draw(tmp_path, size=size), "A", None)))
    assert poster.format == "JPEG"
    assert poster.width <= 240
    assert poster.size == pytest.approx(expected, abs=1)
    assert len(content) < 60_000


def test_the_width_can_be_chosen_and_a_grey_poster_is_a_picture_too(tmp_path, out):
    grey = tmp_path / "grey.png"
    Image.new("RGB", (200, 300), (128, 128, 128)).save(grey)
    page = write(out, [BEST], entry(draw(tmp_path), "A", None), entry(grey, "B", None), thumbnail_px=100)
    assert [picture(page, at)[0].width for at in (0, 1)] == [100, 100]


def test_what_a_file_says_of_its_maker_does_not_travel(tmp_path, out):
    exif = Image.Exif()
    exif[0x013B] = "Artist"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    poster, content = picture(
        write(out, [BEST], entry(draw(tmp_path, exif=exif, icc_profile=profile, comment=b"secret"), "A", None))
    )
    assert not poster.getexif()
    assert "icc_profile" not in poster.info
    assert b"secret" not in content
    assert str(tmp_path) not in out.read_text()


def test_what_cannot_be_read_is_a_tile_with_the_reason(tmp_path, out):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    names = ("text.jpg", "empty.jpg", "absent.jpg", ".")
    page = write(out, [BEST], *(entry(tmp_path / name, name, {"Drama"}) for name in names))
    reasons = ["not an image", "an empty file", "no such file or directory", "a directory, not a file"]
    assert page.texts("p", "picture") == [f"Cannot be read {reason}" for reason in reasons]
    assert not page.all("img") + page.all("section", "opinion")
    assert str(tmp_path) not in out.read_text()


def test_thousands_are_written_one_by_one(tmp_path, out):
    written = []

    def entries() -> Iterator[GalleryEntry]:
        for at in range(2000):
            if at % 500 == 0:
                written.extend(file.stat().st_size for file in out.parent.iterdir())
            yield entry(poster, f"Poster {at}", {"Drama"}, (BEST, {"Drama"}))

    poster = draw(tmp_path)
    write_gallery(out, [BEST], entries(), thumbnail_px=16)
    assert len(written) == 4
    steps = np.diff([*written, out.stat().st_size])
    assert steps.min() > 0.9 * steps.max()  # what was asked for is on the disk before more is asked for
    assert out.read_text().count("<article") == 2000


def kinds(page: Parsed, tag: str = "li", name: str = "chip") -> list[tuple[str, str]]:
    return [
        (element.classes[-1], re.sub(r"\s+", " ", text))
        for element, text in zip(page.all(tag, name), page.texts(tag, name), strict=True)
    ]


def test_hits_misses_and_false_alarms_differ_in_class_symbol_and_words(tmp_path, out):
    poster = draw(tmp_path)
    said = (BEST, {"Drama", "Comedy"}), (ENSEMBLE, set[str]())
    page = write(out, [BEST, ENSEMBLE], entry(poster, "A", {"Drama", "Western"}, *said))
    assert kinds(page) == [
        ("alarm", "✕false alarm: Comedy"),
        ("hit", "✓hit: Drama"),
        ("outside", "–not a genre of this model: Western"),
        ("none", "∅None predicted"),
        ("miss", "○missed: Drama"),
        ("miss", "○missed: Western"),
    ]
    assert page.texts("p", "truth") == ["Known genres: Drama, Western"]


def test_without_truth_nothing_is_right_or_wrong(tmp_path, out):
    page = write(out, [BEST], entry(draw(tmp_path), "A", None, (BEST, {"Drama"})))
    assert kinds(page) == [("said", "Drama")]
    assert not page.all("p", "truth")


def test_bars_stand_in_one_order_for_all_models_with_their_thresholds(tmp_path, out):
    first, second = GalleryModel("a", ("X", "Y"), (0.3, 0.45)), GalleryModel("b", ("Y", "X", "Z"), (0.6, 2.0, 0.5))
    probabilities = (np.array([0.1, 0.7], np.float32), np.array([0.5, 0.2, 0.9], np.float32))
    page = write(
        out, [first, second], GalleryEntry(draw(tmp_path), "A", probabilities, (("Y",), ("Z",)), frozenset({"Y"}))
    )
    assert page.texts("span", "name") == 2 * ["Z", "Y", "X"]
    assert [bar.classes[1:] for bar in page.all("li", "bar")] == [["outside"], ["hit"], [], ["alarm"], ["miss"], []]
    styles = [track.attributes["style"] for track in page.all("span", "track")][1:]  # after the example
    assert styles == [
        "--p:70.0%;--t:45.0%", "--p:10.0%;--t:30.0%", "--p:90.0%;--t:50.0%", "--p:50.0%;--t:60.0%",
        "--p:20.0%;--t:100.0%",
    ]  # fmt: skip
    assert page.all("li", "bar")[1].attributes["title"] == "Y: 0.70, predicted from 0.45"


def test_of_many_genres_the_likeliest_are_shown_and_all_that_matter(tmp_path, out):
    names = tuple(f"G{at:02}" for at in range(20))
    model = GalleryModel("m", names, (0.5,) * 20)
    entries = GalleryEntry(draw(tmp_path), "A", (np.linspace(0.9, 0.0, 20),), (names[:2],), frozenset({"G19"}))
    page = write(out, [model], entries)
    assert page.texts("span", "name") == [*names[:8], "G19", *names[8:19]]
    assert page.texts("summary") == ["11 less likely genres"]


def test_nothing_is_asked_of_other_machines_and_nothing_else_may_be(tmp_path, out):
    page = write(out, [BEST], entry(draw(tmp_path), "A", {"Drama"}, (BEST, {"Drama"})))
    [policy] = [meta for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy"]
    rules = policy.attributes["content"].split("; ")
    assert {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'"} <= {
        *rules
    }
    links = [
        element.attributes[name] for element in page.elements for name in ("src", "href") if name in element.attributes
    ]
    assert all(link.startswith("data:") for link in links)
    assert "://" not in out.read_text()
    assert page.all("html")[0].attributes["lang"] == "en"


def test_the_template_is_installed():
    data = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    report = REPOSITORY / "hpo" / "report"
    packaged = {file for pattern in data["hpo.report"] for file in report.glob(pattern)}
    assert packaged == {file for file in (report / "templates").iterdir() if file.is_file()}


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page of two models and six posters."""
    folder = tmp_path_factory.mktemp("gallery")
    poster = draw(folder, size=(200, 300))
    out = folder / "a page & more #1.html"
    entries = [
        entry(poster, "Amélie", {"Comedy", "Drama"}, (BEST, {"Comedy", "Drama"}), (ENSEMBLE, {"Comedy"})),
        entry(poster, "Heat", {"Action"}, (BEST, {"Action", "Drama"}), (ENSEMBLE, set())),
        entry(poster, "Unforgiven", {"Western", "Drama"}, (BEST, {"Drama"}), (ENSEMBLE, {"Drama", "Western"})),
        entry(poster, "Unknown" + "x" * 90, None, (BEST, {"Comedy"}), (ENSEMBLE, {"Comedy"})),
        entry(poster, "Quiet <img src=x onerror=alert(1)>", set(), (BEST, set()), (ENSEMBLE, set())),
        entry(folder / "absent.jpg", "Lost", {"Drama"}),
    ]
    write_gallery(out, [BEST, ENSEMBLE], entries)
    return out.as_uri()


@pytest.fixture(scope="module")
def window(chromium) -> Iterator[Browser]:
    with browse(chromium) as window:
        yield window


class Shown(NamedTuple):
    page: Any
    browser: Browser
    complaints: list[str]

    def titles(self) -> list[str]:
        """The first words of what is shown."""
        shown = self.page.locator(".tile").filter(visible=True).locator("h2")
        return [title.split(" ")[0][:10] for title in shown.all_text_contents()]

    def count(self) -> str:
        return self.page.get_by_role("status").inner_text()


@pytest.fixture
def gallery(window, address) -> Iterator[Shown]:
    """The page, opened afresh in a wide, light window; whatever a test does with it, nothing may go wrong unseen."""
    page, complaints = window.page, list[str]()
    window.requests.clear()
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.emulate_media(color_scheme="light")
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    yield Shown(page, window, complaints)
    assert complaints == []
    assert {url for url in window.requests if not url.startswith("data:")} == {address}


CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgb = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (channels) => channels.map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const grounds = (node) => node ? [...grounds(node.parentElement), getComputedStyle(node).backgroundColor] : [];
  return [...document.querySelectorAll("h1, h2, h3, p, .chip, .name, .number, th, td, button, label, legend, summary")]
    .filter((node) => node.checkVisibility() && node.textContent.trim())
    .map((node) => {
      const under = grounds(node), ground = light(rgb(...under));
      const over = light(rgb(...under, getComputedStyle(node).color));
      return [(Math.max(over, ground) + 0.05) / (Math.min(over, ground) + 0.05), node.outerHTML.slice(0, 80)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 800, 1400])
def test_it_can_be_read_in_any_light_on_any_screen(gallery, scheme, width):
    page = gallery.page
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edges = page.evaluate("[...document.querySelectorAll('main *')].map(node => node.getBoundingClientRect().right)")
    assert max(edges) <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert [found for found in contrasts if found[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) > 128) == (scheme == "light")


def test_pictures_are_shown_and_thresholds_stand_where_they_belong(gallery):
    widths = "() => Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    assert gallery.page.evaluate(widths) == [240] * 5
    track = gallery.page.locator(".opinion .track").first
    share = track.evaluate("node => parseFloat(getComputedStyle(node, '::after').left) / node.clientWidth")
    assert share == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("query", "genre", "model", "pressed", "expected"),
    [
        ("", "", "", (), ["Amélie", "Heat", "Unforgiven", "Unknownxxx", "Quiet", "Lost"]),
        ("AMELIE", "", "", (), ["Amélie"]),
        ("un", "", "", (), ["Unforgiven", "Unknownxxx"]),
        ("onerror quiet", "", "", (), ["Quiet"]),
        ("", "Comedy", "", (), ["Amélie", "Unknownxxx"]),
        ("", "Drama", "", (), ["Amélie", "Heat", "Unforgiven", "Lost"]),
        ("", "Western", "best", (), ["Unforgiven"]),
        ("", "", "", ("Hit",), ["Amélie", "Heat", "Unforgiven"]),
        ("", "", "ensemble", ("Hit",), ["Amélie", "Unforgiven"]),
        ("", "", "", ("Miss",), ["Amélie", "Heat"]),
        ("", "", "best", ("Miss",), []),
        ("", "Drama", "", ("Miss",), ["Amélie"]),
        ("", "Drama", "", ("False alarm",), ["Heat"]),
        ("", "Action", "", ("False alarm",), []),
        ("", "", "", ("None predicted",), ["Heat", "Quiet"]),
        ("", "Action", "", ("None predicted",), ["Heat"]),
        ("", "", "best", ("None predicted", "False alarm"), ["Heat", "Quiet"]),
        ("", "", "", ("Unreadable",), ["Lost"]),
        ("heat", "", "", ("Unreadable",), []),
    ],
)
def test_filters_show_what_fits_and_count_it(gallery, query, genre, model, pressed, expected):
    page = gallery.page
    page.get_by_label("Title").fill(query)
    page.get_by_label("Genre").select_option(genre)
    if model:
        page.get_by_label("Judged by").select_option(label=model)
    for name in pressed:
        page.get_by_role("button", name=name, exact=True).click()
    assert gallery.titles() == expected
    assert gallery.count() == f"{len(expected)} of 6 posters"
    assert page.get_by_text("No poster fits").is_visible() == (not expected)
    clear = page.get_by_role("button", name="Clear filters")
    assert clear.is_visible() == any((query, genre, model, pressed))
    if clear.is_visible():
        clear.click()
        assert gallery.count() == "6 of 6 posters"


def test_a_page_of_a_thousand_is_filtered_and_its_tiles_are_no_list_items(gallery, tmp_path):
    out, poster = tmp_path / "gallery.html", draw(tmp_path)
    said = (BEST, {"Drama"}), (ENSEMBLE, {"Comedy"})
    entries = (entry(poster, f"Poster {at}", {"Drama"}, *said) for at in range(1000))
    write_gallery(out, [BEST, ENSEMBLE], entries, thumbnail_px=16)
    gallery.page.goto(out.as_uri())
    gallery.page.get_by_label("Title").fill("99")
    assert gallery.count() == "19 of 1,000 posters"
    # A browser renumbers list items whenever one is hidden: filtering these took 1.7 s, and takes hundredths.
    display = "tiles => tiles.map(tile => getComputedStyle(tile).display)"
    assert set(gallery.page.locator(".tile:visible").evaluate_all(display)) == {"block"}
    gallery.browser.requests.remove(out.as_uri())


def tally(gallery: Shown) -> list[str]:
    return [re.sub(r"\s+", " ", row) for row in gallery.page.locator(".tally tbody tr").all_inner_texts()]


def test_what_is_shown_is_counted_for_each_model(gallery):
    assert tally(gallery) == ["best 4 0 1 1", "ensemble 3 2 0 2"]
    gallery.page.get_by_label("Genre").select_option("Drama")
    assert tally(gallery) == ["best 2 0 1 0", "ensemble 1 1 0 0"]


def test_everything_can_be_done_with_the_keyboard(gallery):
    page = gallery.page
    page.keyboard.press("Tab")
    page.keyboard.type("t")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # over Hit
    page.keyboard.press("Space")
    miss = page.get_by_role("button", name="Miss", exact=True)
    assert miss.get_attribute("aria-pressed") == "true"
    assert miss.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    assert gallery.titles() == ["Heat"]
    page.get_by_role("button", name="Clear filters").focus()
    page.keyboard.press("Enter")
    assert gallery.count() == "6 of 6 posters"
    assert page.evaluate("document.activeElement.id") == "query"


def test_pressing_a_genre_shows_where_it_is_seen(gallery, tmp_path):
    out, page = tmp_path / "gallery.html", gallery.page
    seen = np.zeros((len(BEST.label_names), 8, 8), np.float32)
    seen[:, 7, 0], seen[:, 0, 7] = 0.5, -0.4
    told = entry(draw(tmp_path), "A", {"Drama"}, (BEST, {"Drama", "Comedy"}))
    plain = entry(draw(tmp_path), "B", None, (BEST, {"Drama"}))
    write_gallery(out, [BEST], [replace(told, evidence=(seen,)), plain], explained=True)
    page.goto(out.as_uri())
    shown, drama = page.locator(".map").filter(visible=True), page.get_by_role("button", name="Drama")
    assert shown.count() == 0
    drama.focus()
    page.keyboard.press("Space")
    words = "Drama: it is seen most in the lower left; the upper right speaks most against it"
    assert shown.get_attribute("alt") == page.locator("[aria-live]").inner_text() == words
    laid, poster = shown.bounding_box(), page.locator("img.picture").first.bounding_box()
    assert [laid[at] for at in ("x", "y", "width", "height")] == pytest.approx(
        [poster[at] for at in ("x", "y", "width", "height")], abs=1
    )
    seen_by_a_person = Image.open(io.BytesIO(page.locator("img.picture").first.screenshot())).convert("RGB")
    red, _, blue = seen_by_a_person.getpixel((10, seen_by_a_person.height - 10))
    assert red > blue + 40  # orange
    red, _, blue = seen_by_a_person.getpixel((seen_by_a_person.width - 10, 10))
    assert blue > red + 40
    assert np.ptp(seen_by_a_person.getpixel((10, 10))) < 5  # grey
    page.get_by_role("button", name="Comedy").click()
    assert shown.get_attribute("alt").startswith("Comedy")
    assert drama.get_attribute("aria-pressed") == "false"
    page.locator(".chip.alarm").click(position={"x": 3, "y": 12})  # its edge is as good as its word
    assert shown.count() == 0
    assert page.locator("[aria-live]").inner_text() == ""
    gallery.browser.requests.remove(out.as_uri())


@pytest.mark.parametrize(
    ("lower_left", "below_it", "upper_right", "words"),
    [
        (0.5, 0, 0, "it is seen most in the lower left"),
        (0.5, 0, -0.05, "it is seen most in the lower left"),  # as pale as noise
        (0.5, -0.4, -0.3, "it is seen most in the lower left, beside what speaks most against it"),
        (0, 0, -0.4, "no region speaks for it; the upper right speaks most against it"),
        (0, 0, 0, "no region speaks for it"),
    ],
)
def test_a_map_is_told_in_words(lower_left, below_it, upper_right, words):
    seen = np.zeros((8, 8), np.float32)
    seen[6, 0], seen[7, 0], seen[0, 7] = lower_left, below_it, upper_right
    assert draw_evidence(seen).words == words


@pytest.mark.parametrize(
    ("said", "truth", "explained"),
    [("ABCDE", "", "ABCD"), ("ABCDE", "F", "ABCF"), ("ABCDE", "FGH", "ABFG"), ("A", "FGHI", "AFGH"), ("AB", "", "AB")],
)
def test_a_few_genres_are_explained_and_misses_among_them(tmp_path, out, said, truth, explained):
    model = GalleryModel("m", tuple("ABCDEFGHI"), (0.5,) * 9)
    told = entry(draw(tmp_path), "A", {*truth, *"A"}, (model, {*said}))
    write_gallery(out, [model], [replace(told, evidence=(np.ones((9, 8, 8), np.float32),))], explained=True)
    chips = Parsed(out.read_text(encoding="utf-8")).texts("button", "why")
    assert chips == [*explained]


def test_filters_that_nothing_can_meet_are_not_offered(gallery, tmp_path):
    out = tmp_path / "gallery.html"
    write_gallery(out, [BEST], [entry(draw(tmp_path), "A", None, (BEST, {"Drama"}))])
    gallery.page.goto(out.as_uri())
    assert gallery.page.locator("button.kind").filter(visible=True).all_text_contents() == ["∅None predicted"]
    assert not gallery.page.get_by_label("Judged by").is_visible()
    assert not gallery.page.locator("footer").is_visible()
    gallery.browser.requests.remove(out.as_uri())
