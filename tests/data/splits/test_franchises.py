from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.data.sample.shows import OPENINGS, SUBJECTS, invent_shows
from hpo.data.splits.franchises import REASON, franchise_links
from hpo.data.splits.groups import group_posters

ANIME = Path("anime-covers", "anime.csv")
MAL = Path("mal-catalogue", "anime-dataset-2023-sample.csv")


def franchises(*titles: str | tuple[str, ...]) -> set[frozenset[str]]:
    """The first titles of all posters that stand together with another."""
    texts = [(title,) if isinstance(title, str) else title for title in titles]
    groups = group_posters(len(texts), [franchise_links(texts)])
    return {frozenset(texts[row][0] for row in group.rows) for group in groups.shared}


@pytest.mark.parametrize(
    "titles",
    [
        ("Rocky", "Rocky II", "Rocky Balboa"),
        ("Star Wars: Episode IV - A New Hope", "Star Wars: The Clone Wars"),
        ("Harry Potter and the Chamber of Secrets", "Harry Potter and the Goblet of Fire"),
        ("Mission: Impossible", "Mission: Impossible II", "Mission: Impossible - Fallout"),
        ("The Matrix", "The Matrix Reloaded"),
        ("Dragon Ball", "Dragon Ball Z", "Dragon Ball GT", "Dragon Ball Z Movie 01: Ora no Gohan wo Kaese!!"),
        ("Naruto", "Naruto Shippuuden", "NARUTO: Shippuuden"),
        ("K-On!", "K-On!!", "K-On! Movie"),
        ("Boku no Hero Academia", "Boku no Hero Academia 2", "Vigilante: Boku no Hero Academia Illegals"),
        ("Sayonara Zetsubou Sensei", "Zoku Sayonara Zetsubou Sensei", "Zan Sayonara Zetsubou Sensei"),
        ("Initial D First Stage", "Initial D Fourth Stage"),
        ("Free!: Eternal Summer", "Free!: Take Your Marks"),
        ("進撃の巨人", "進撃の巨人 Season 2", "劇場版 進撃の巨人 前編"),
        ("名探偵コナン", "名探偵コナン 時計じかけの摩天楼"),
        ("ドラゴンボール", "ドラゴンボールZ"),
        ("Ночной дозор", "Ночной дозор 2"),
        ("부산행", "부산행 2"),
    ],
)
def test_works_of_one_franchise_stay_together(titles):
    assert franchises(*titles, "Cowboy Bebop", "Casablanca", "七人の侍") == {frozenset(titles)}


@pytest.mark.parametrize(
    "titles",
    [
        ("K", "K-On!"),
        ("Monster", "Monster Musume no Iru Nichijou", "Monster Hunter Stories"),
        ("The Thing", "The Thing Called Love"),
        ("Air", "Air Gear", "Air Master"),
        ("Love Live! Sunshine!!", "Love Hina", "Love Story"),
        ("Boku no Pico", "Boku no Hero Academia"),
        ("Tonari no Totoro", "Tonari no Kaibutsu-kun"),
        ("The Movie", "The Anime", "The Island"),
        ("Oh! My Goddess", "Oh! Edo Rocket"),
        ("2012", "2001: A Space Odyssey"),
        ("High School", "High School Musical", "Cromartie High School"),
        ("", "", ""),
    ],
)
def test_words_that_any_title_may_hold_link_nothing(titles):
    assert franchises(*titles) == set()


def test_a_modifier_is_told_by_how_many_titles_it_opens():
    ships = [f"Phobos {noun}" for noun in ("Ship", "Town", "World", "Dog", "Rider", "Writer", "Story", "Hunt", "Cat")]
    assert franchises("Phobos", *ships[:3]) == {frozenset(["Phobos", *ships[:3]])}
    assert franchises("Phobos", *ships) == set()


def test_a_word_that_stands_anywhere_is_no_name():
    assert franchises("Zenith", "Zenith Rising", "At the Zenith", "Lost Zenith", "Our Zenith") == set()


def test_any_of_the_titles_may_say_so():
    assert franchises(
        ("Innocence", "Ghost in the Shell 2: Innocence"),
        ("Koukaku Kidoutai", "Ghost in the Shell", ""),
        ("Koukaku Kidoutai: Stand Alone Complex", ""),
    ) == {frozenset({"Innocence", "Koukaku Kidoutai", "Koukaku Kidoutai: Stand Alone Complex"})}


def test_no_titles_give_no_links():
    for titles in ([], [()], [("",), ("", "")]):
        links = franchise_links(titles)
        assert (links.reason, links.pairs.shape) == (REASON, (0, 2))


words = st.sampled_from(
    ["Dragon", "Ball", "Z", "the", "Movie", "2", "II", "Naruto", "no", "Love", "Ghost", "Kai", ":", "!"]
)
catalogues = st.lists(st.lists(words, max_size=5).map(" ".join), min_size=2, max_size=12)


@settings(deadline=None)
@given(catalogues, st.randoms(use_true_random=False))
def test_permuted_posters_give_permuted_franchises(titles, random):
    numbered = [(f"{title}",) for title in titles]
    order = list(range(len(titles)))
    random.shuffle(order)
    of_poster = group_posters(len(titles), [franchise_links(numbered)]).of_poster
    moved = group_posters(len(titles), [franchise_links([numbered[row] for row in order])]).of_poster
    assert np.array_equal(moved[:, None] == moved, (of_poster[:, None] == of_poster)[np.ix_(order, order)])


def test_drawn_titles_from_a_small_vocabulary_form_no_large_groups():
    titles = [(show.title,) for show in invent_shows(2000)]
    groups = group_posters(len(titles), [franchise_links(titles)])
    assert max(len(group.rows) for group in groups.shared) <= 3
    assert groups.n_shared_posters < 0.05 * len(titles)


def test_a_hundred_thousand_titles_are_linked():
    rng = np.random.default_rng(0)
    syllables = np.array(["ka", "ro", "mi", "ten", "shu", "gal", "dor", "vex"])
    names = ["".join(row).title() for row in syllables[rng.integers(8, size=(20_000, 5))]]
    titles = [(f"{names[at % len(names)]}: {OPENINGS[at % 60]} {SUBJECTS[at % 67]} {at}",) for at in range(100_000)]
    links = franchise_links(titles)
    assert len(links) > 50_000


def read_titles(path: Path) -> list[tuple[str, ...]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            tuple(row[name].replace("UNKNOWN", "") for name in ("Name", "English name")) for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(("path", "in_groups", "largest"), [(ANIME, (0.62, 0.7), 26), (MAL, (0.48, 0.54), 28)])
def test_the_franchises_of_a_real_catalogue(
    shared_data: Path, path: Path, in_groups: tuple[float, float], largest: int
):
    titles = read_titles(shared_data / path)
    groups = group_posters(len(titles), [franchise_links(titles)])
    assert in_groups[0] < groups.n_shared_posters / len(titles) < in_groups[1]
    assert len(groups.shared[0].rows) == largest  # Conan with Lupin, whom he meets; Lupin
    number_of = {title: number for texts, number in zip(titles, groups.of_poster, strict=True) for title in texts}
    assert number_of["Cowboy Bebop"] == number_of["Cowboy Bebop: Tengoku no Tobira"]
    assert number_of["Ghost in the Shell 2: Innocence"] == number_of["Ghost in the Shell: Stand Alone Complex"]
    assert len({number_of[name] for name in ("Full Moon wo Sagashite", "Cardcaptor Sakura", "Mind Game", "Noir")}) == 4


def test_a_pattern_that_all_titles_share_is_no_franchise():
    titles = [(f"Work {at // 2}: Part {at % 2 + 1}",) for at in range(2000)]
    groups = group_posters(len(titles), [franchise_links(titles)])
    assert max(len(group.rows) for group in groups.shared) < 50
