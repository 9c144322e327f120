"""Words that titles are split by, in the languages of the large catalogues.

The trade-off: lists are never complete. A sequel marker that is missing here costs a link, and an everyday word that
is missing joins a few unrelated titles; both are cheap, and the lists stay short enough to be read.
"""

from __future__ import annotations

ARTICLES = frozenset({"the", "a", "an"})
# What stands before a root and says no more than that this is the film of it, the new one, the sequel.
LEADING_MARKERS = ARTICLES | {"gekijouban", "eiga", "shin", "zoku", "劇場版", "剧场版", "映画"}
# What follows a root and says only which of its works this is.
MARKERS = frozenset((
    "season", "seasons", "series", "cour", "movie", "movies", "film", "films", "ova", "ovas", "oav", "oad", "ona",
    "tv", "anime", "animation", "special", "specials", "recap", "recaps", "trailer", "teaser", "pv", "prologue",
    "epilogue", "prelude", "omake", "gaiden", "extra", "edition", "returns", "reloaded", "begins", "forever", "again",
    "resurrection", "the", "zenpen", "chuuhen", "kouhen", "soushuuhen", "bangaihen", "gekijouban", "zoku", "劇場版",
    "剧场版", "映画", "特別編", "特别篇", "総集編", "完結編", "前編", "後編", "続編", "期", "季", "シーズン",
    "シリーズ", "시즌", "극장판", "сезон", "фильм", "saison", "staffel", "temporada", "pelicula",
))  # fmt: skip
# These count only beside a number: "Act II", "Second Stage", "Part 2", but "Sister Act", "Life Stage".
UNITS = frozenset((
    "part", "chapter", "act", "stage", "arc", "volume", "vol", "episode", "ep", "phase", "case", "gig", "s",
    "picture", "hen", "teil", "parte",
))  # fmt: skip
# And these only beside one of the others: "Final Season", "Chapter Two", but "Friday the 13th".
ORDINALS = frozenset((
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "final", "last", "new", "one", "two", "three",
    "four", "five", "motion", "complete", "kanketsu", "1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th",
))  # fmt: skip
# These say nothing of what a work is about.
PARTICLES = frozenset((
    "of", "and", "or", "in", "on", "at", "to", "for", "from", "with", "by", "is", "are", "no", "not", "this", "that",
    "what", "how", "when", "who", "why", "where", "along", "around", "my", "your", "our", "his", "her", "its", "i",
    "you", "we", "he", "she", "it", "me", "wa", "wo", "ga", "ni", "de", "e", "mo", "ya", "na", "ka", "kara", "boku",
    "ore", "watashi", "kimi", "kono", "sono", "ano", "der", "das", "le", "la", "les", "el", "los", "un", "une",
    "du", "des", "et", "y", "の", "は", "が", "を", "に", "と", "で", "も", "へ", "や",
))  # fmt: skip
# Words that open many unrelated titles, so that one of them alone is no name, however few titles the catalogue has.
EVERYDAY_WORDS = frozenset((
    "adventure", "after", "air", "alice", "alone", "american", "angel", "animal", "another", "baby", "back", "bad",
    "battle", "beautiful", "beauty", "big", "black", "blood", "blue", "body", "book", "born", "boys", "brave",
    "bright", "brother", "brothers", "captain", "case", "castle", "cat", "catch", "chance", "child", "children",
    "christmas", "city", "classroom", "club", "code", "cold", "crazy", "daily", "dance", "dark", "date", "days",
    "dead", "dear", "death", "demon", "detective", "devil", "diary", "dirty", "doctor", "dogs", "doll", "double",
    "down", "dragon", "dream", "dreams", "earth", "escape", "eternal", "everyday", "evil", "eyes", "fairy", "family",
    "fantasy", "fight", "final", "fire", "first", "five", "flower", "food", "four", "freedom", "friday", "friends",
    "full", "future", "galaxy", "game", "garden", "ghost", "girl", "girls", "golden", "good", "great", "green",
    "guardian", "guns", "happy", "hard", "heart", "hearts", "heaven", "hell", "hello", "hero", "high", "holy", "home",
    "honey", "hotel", "hour", "house", "human", "hunter", "idol", "island", "jack", "journey", "july", "june", "kids",
    "kill", "king", "kingdom", "kiss", "knight", "lady", "land", "last", "legend", "letter", "life", "light", "like",
    "little", "live", "living", "lone", "lonely", "long", "lord", "lost", "love", "lovely", "lucky", "made", "magic",
    "magical", "maid", "man", "master", "meet", "memories", "memory", "midnight", "miracle", "miss", "mission",
    "mister", "money", "monster", "monsters", "moon", "mother", "music", "mystery", "never", "next", "night",
    "nightmare", "nine", "ninja", "nobody", "once", "only", "open", "orange", "over", "paradise", "party", "people",
    "perfect", "phantom", "pink", "planet", "please", "police", "power", "pretty", "prince", "princess", "private",
    "project", "pure", "quiet", "rain", "real", "rebel", "return", "revenge", "river", "road", "robot", "rock",
    "romance", "room", "royal", "saint", "samurai", "scary", "school", "sea", "secret", "secrets", "seven", "shadow",
    "show", "silent", "silver", "sister", "sisters", "sky", "small", "snow", "soldier", "song", "soul", "sound",
    "space", "special", "spider", "spirit", "spring", "star", "stars", "state", "steel", "story", "strange", "street",
    "strong", "summer", "super", "sweet", "sword", "tale", "tales", "tears", "teen", "ten", "thing", "things",
    "thirteen", "three", "tiger", "time", "town", "toy", "train", "travel", "treasure", "trouble", "true", "twilight",
    "twin", "ultimate", "under", "vampire", "virgin", "waiting", "war", "warrior", "water", "wedding", "welcome",
    "when", "white", "wild", "wind", "winter", "witch", "wolf", "woman", "women", "wonder", "wonderful", "world",
    "year", "years", "yes", "young", "youth", "zero", "zombie", "ai", "akai", "akuma", "ao", "atarashii", "bishoujo",
    "bouken", "chikyuu", "chou", "daisuki", "densetsu", "eien", "gakuen", "gekijou", "ginga", "haru", "hime",
    "himitsu", "hoshi", "isekai", "kage", "kaze", "kimi", "koi", "kokoro", "konya", "maboroshi", "mahou", "majo",
    "mirai", "monogatari", "musume", "natsu", "neko", "ningen", "otome", "ouji", "saigo", "sayonara", "sekai",
    "senshi", "shiro", "shoujo", "shounen", "sora", "tenshi", "tsuki", "uchuu", "umi", "yami", "yoru", "youkai",
    "yuki", "yume", "yuusha",
))  # fmt: skip
