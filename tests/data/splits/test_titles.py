from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.splits.franchises import MAX_WORDS, read_title


def claims(text: str) -> tuple[str, ...]:
    title = read_title(text)
    assert title is not None
    return title.claims


@pytest.mark.parametrize(
    "text",
    [
        "Naruto",
        "NARUTO 2",
        "Naruto II",
        "Naruto Movie 3",
        "Naruto: Season 2 Part 2",
        "Naruto 2nd Season",
        "Naruto: The Final Season",
        "Naruto (2014)",
        "Naruto (TV)",
        "Naruto OVA",
        "Naruto - The Movie",
        "Naruto Chapter Two",
        "Naruto Specials",
        "Naruto! Recap",
        "The Naruto",
        "Gekijouban Naruto",
        "Ｎａｒｕｔｏ　第2期",
        "Nâruto",
        "【NARUTO】Season 3",
        "Naruto '91".replace("91", "1991"),
    ],
)
def test_sequels_of_one_work_claim_its_root_alone(text):
    assert claims(text) == ("naruto",)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("Star Wars: Episode IV - A New Hope", "star wars", "star wars episode iv a new hope"),
        ("Fate/stay night: Unlimited Blade Works", "fate", "fate stay night unlimited blade works"),
        (".hack//Sign", "hack", "hack sign"),
        ("Bocchi the Rock! Re:Re:", "bocchi the rock", "bocchi the rock re re"),
        ("Pokémon: Jirachi — Wish Maker", "pokemon", "pokemon jirachi wish maker"),
        ("ef ~ A Tale of Memories", "ef", "ef a tale of memories"),
    ],
)
def test_the_words_before_a_separator_are_claimed_and_so_is_the_whole(text, first, last):
    assert (claims(text)[0], claims(text)[-1]) == (first, last)


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("K-On!", "k on"),
        ("The A-Team", "a team"),
        ("Friday the 13th", "friday the 13th"),
        ("Eyeshield 21", "eyeshield 21"),
        ("Malcolm X", "malcolm x"),
        ("Sister Act", "sister act"),
        ("1984", "1984"),
        ("It", "it"),
        ("The Movie", "movie"),
        ("Re:Creators", "re creators"),
        ("Hibike! Euphonium", "hibike euphonium"),  # one word before "!" is not yet a root
        ("Alice & Zouroku", "alice and zouroku"),
        ("Howl's Moving Castle", "howls moving castle"),
        ("進撃の巨人", "進撃 の 巨人"),
        ("ドラゴンボールZ", "ドラゴンボール z"),
        ("Тетрадь смерти", "тетрадь смерти"),
    ],
)
def test_what_looks_like_a_marker_may_be_the_name(text, root):
    assert claims(text) == (root,)


@pytest.mark.parametrize("text", ["", "   ", "!!", "★", "( )", "-"])
def test_a_title_without_a_word_is_none(text):
    assert read_title(text) is None


@given(st.text(max_size=60))
def test_any_text_is_taken_apart(text):
    title = read_title(text)
    assert title == read_title(f"  {text}  ")
    if title is not None:
        assert title.words
        assert len(set(title.claims)) == len(title.claims) > 0
        assert all(claim == " ".join(claim.split()) != "" for claim in title.claims)


def test_a_synopsis_in_the_title_column_is_cut():
    title = read_title("word " * 10_000)
    assert title is not None
    assert len(title.words) == MAX_WORDS
