"""The ten genres as data: how common each is, and what it shows on a sample poster.

A sprite is a text of parts, separated by ``;`` and drawn in this order. A part is ``[words] colour[/opacity in %] x,y
x,y ...``, in hundredths of the sprite's size around its place; y points down. Two corners are those of an ellipse, or
with the word ``box`` of a rectangle; more are a polygon. ``mirror`` adds the left half to a right half given from top
to bottom, ``round`` smooths the corners, and ``twin`` draws the mirror image too. A colour is one of CSS, ``tint`` (an
accent), or one of ``PALETTE``, ``FIGURE_COLOURS``, ``coat``, ``ray`` (sky_low with accent) or ``mist`` (with light); of
the latter each has a ``dark_`` shade.
"""

from __future__ import annotations

from typing import NamedTuple

Range = tuple[float, float]
PALETTE = ("sky_top", "sky_low", "far", "near", "accent", "light")


class Layer(NamedTuple):
    """Copies of sprites: where (poster widths; y reaches 1.42), how large (poster widths), how turned (radians)."""

    sprites: tuple[str, ...]  # each copy is one of them
    copies: int = 1  # "scatter" draws between half as many and all
    x: Range = (0.0, 1.0)
    y: Range = (0.02, 1.22)
    size: Range = (0.018, 0.055)
    turn: Range = (0.0, 0.0)
    layout: str = "scatter"  # "row": evenly along x; "ring": evenly around one place


class Genre(NamedTuple):
    """One genre; each field from ``palette`` on is what it shows in one slot of a poster."""

    share: float  # of the shows, 0..1
    loadings: tuple[float, float, float]  # on spectacle, heart and wonder
    palette: str  # hexadecimal, in the order of PALETTE
    backdrop: tuple[Layer, ...]
    air: Layer
    costume: str  # in head radii around the middle of the face


# fmt: off
DROP = "round mirror tint 0,-130 14,-80 50,0 72,50 60,95 0,105"
FLAME = "round mirror tint 0,-160 12,-90 50,-20 72,40 55,100 0,115; round mirror light 0,-30 35,40 25,90 0,100"
STAR = "mirror tint 0,-100 14,-14 100,0 14,14 0,100"
BURST = "mirror tint 0,-100 20,-56 60,-80 54,-28 100,-12 62,16 82,60 36,50 22,96 0,62"
CLOUD = "light -150,-30 -40,40; light -95,-85 30,40; light -20,-60 90,40; light 50,-20 150,40"
HEART = "round mirror {} 0,-42 22,-98 84,-98 112,-40 70,30 0,96"
MOON = "round light 20,-100 -60,-85 -105,-20 -95,50 -40,105 40,100 90,50 20,62 -40,20 -50,-40 -20,-80"
MOUNTAIN = "far 0,-60 80,70 -80,70; dark_far 0,-60 80,70 15,70; light 0,-60 16,-28 5,-34 -4,-24 -16,-28"
TOWER = "box far -5,0 5,150; near 0,-20 8,2 -8,2; accent -1.5,8 1.5,13"
BATTLEMENT = "box far -6,0 6,150; box far -7,-4 -3,2; box far 3,-4 7,2; accent -1.5,8 1.5,13"
SEA = "light/25 -26,-29 26,23; light -12,-15 12,9; box far -120,0 120,150;" + ";".join(
    f"light/60 {-6 - y / 4},{y} {4 + y * 0.3},{y + 1.4}" for y in (1, 3, 6, 10, 15, 21, 28, 36))
SPOTLIGHT = "accent/45 -3,0 3,0 55,145 -25,145;" + ";".join(f"box far -150,{y} 150,{y + 4}" for y in range(2, 142, 9))
SKYSCRAPER = "box near -9,0 9,150;" + ";".join(
    f"box accent {x},{y} {x + 3},{y + 3}" for x in (-6, 2) for y in range(4 + x % 4, 60, 10))
PLANET = ("accent/20 -150,-150 150,150; far -100,-100 100,100; accent/30 -85,-85 35,35; light -190,60 -100,8 -96,22"
          " -150,52 0,30 150,-40 96,-22 92,-34 190,-68 160,-30 0,48 -150,76")
POLE = "box near -1.2,-45 1.2,120; box near -11,-39 11,-37; box near -9,-33 9,-31;" + ";".join(
    f"twin near 0,{y} 40,{y + 10} 120,{y + 12} 120,{y + 13} 40,{y + 11} 0,{y + 1}" for y in (-38, -32, -24))
TORII = ("round mirror near 0,2 30,2 52,-4 50,8 0,10; mirror near 0,20 42,20 42,26 0,26;"
         "twin near 27,6 36,6 36,150 27,150; box near -4,8 4,22; far/60 -120,70 120,200")

RECORDS: dict[str, Genre] = {
    "Action": Genre(0.39, (0.75, -0.3, 0.1), "1b0b14 d8432b 6b1a1f 1a0e12 ff9d2e ffe9c7",
        (Layer(("mist 42,0 200,-5 200,5",), 42, (0.3, 0.7), (0.4, 0.9), (0.8, 1.2), (-0.05, 0.05), "ring"),),
        Layer(("mirror tint 0,-320 14,0 0,320", FLAME), 14, turn=(0.7, 1.1)),
        "mirror crimson 0,-58 106,-55 110,-28 0,-30; crimson 100,-52 210,-95 188,-55 220,-20 100,-28;"
        "silver 120,350 145,350 215,-150 208,-215 185,-160; saddlebrown 90,262 93,242 185,256 182,276"),
    "Adventure": Genre(0.24, (0.65, 0.0, 0.35), "2f8fd0 eaf6d8 5fa777 23523f f0b541 fffbe6",
        (Layer(("light/25 -34,-34 34,34; light/90 -20,-20 20,20",), 1, (0.1, 0.9), (0.15, 0.5), (0.6, 1.0)),
         Layer((MOUNTAIN,), 4, (-0.1, 1.1), (0.7, 0.9), (0.6, 1.0), layout="row"),
         Layer(("near -70,-14 70,120",), 3, (-0.1, 1.1), (0.95, 1.1), (0.9, 1.1), layout="row")),
        Layer(("round mirror tint 0,10 40,-35 120,-45 50,5 0,42", STAR), 11, turn=(-0.2, 0.2)),
        "goldenrod -190,-103 190,-27; round mirror khaki 0,-185 70,-165 98,-66; mirror crimson 0,-96 90,-96 97,-66"),
    "Comedy": Genre(0.41, (-0.25, 0.2, -0.3), "35c3e8 fff2a8 ffb13d e8604c ffde3b ffffff",
        (Layer(("ray 0,0 200,-27 200,27",), 14, (0.3, 0.7), (0.4, 0.9), (0.9, 1.1), layout="ring"),
         Layer(("mist -3,-3 3,3; mist -2,6 2,10; mist -1,15 1,17",), 7, y=(0.03, 0.06), size=(0.9, 1.2), layout="row")),
        Layer(("tint -110,-80 110,80; tint -50,60 10,70 -60,130", BURST), 10, turn=(-0.4, 0.4), size=(0.025, 0.075)),
        "mirror maroon 0,48 44,44 32,82 0,94; mirror white 0,48 42,45 38,58 0,60;"
        "round skyblue 112,-100 145,-40 118,-12 85,-40; round skyblue -125,-70 -100,-20 -125,0 -150,-20"),
    "Drama": Genre(0.25, (-0.1, 0.65, 0.0), "4c5d73 d9cbb8 7d8793 2d3642 b8574b f3ece2",
        (Layer((SEA,), 1, (0.2, 0.8), (0.65, 0.9), (0.9, 1.2)),),
        Layer(("box tint -5,-220 5,220",), 40, turn=(0.2, 0.3)),
        "box black 122,-130 130,300; round mirror accent 0,-215 90,-190 190,-120 215,-40 160,-65 105,-45 50,-65 0,-45;"
        "dark_accent 0,-205 60,-190 45,-65 0,-52"),
    "Fantasy": Genre(0.29, (0.35, 0.0, 0.7), "2b2468 c79bf2 5a46a6 231a4a 6ff0d4 fbeaff",
        (Layer((MOON,), 1, (0.2, 0.8), (0.2, 0.5), (0.12, 0.25), (-0.5, 0.5)),
         Layer((TOWER, BATTLEMENT), 6, (0.0, 1.0), (0.45, 0.85), (0.9, 1.4), layout="row"),
         Layer(("near -80,-14 80,120",), 2, (-0.1, 1.1), (0.95, 1.1), (0.9, 1.1), layout="row")),
        Layer((STAR, "mirror tint 0,-120 45,-50 45,60 0,110"), 18, turn=(-0.2, 0.2)),
        "indigo -185,-104 185,-36; indigo -100,-70 -35,-210 55,-262 35,-190 100,-70; mirror accent 88,-96 100,-66"),
    "Mystery": Genre(0.085, (0.0, 0.15, 0.45), "0b1216 35514f 16262a 070b0d e0b04a f3ead2",
        (Layer((SPOTLIGHT,), 1, (0.1, 0.9), (0.0, 0.0), (1.0, 1.05)),),
        Layer(("tint -75,-75 75,75; near -52,-52 52,52; box tint -12,70 12,170",
               "tint -50,-95 50,5; mirror tint 0,-50 18,-40 42,95 0,95"), 8, turn=(-0.9, -0.2), size=(0.025, 0.07)),
        "mirror black/55 0,-35 100,-35 96,30 0,35; black -160,-82 160,-22;"
        "round mirror dimgray 0,-160 40,-185 90,-150 98,-50 0,-46; mirror black 0,-88 92,-88 97,-60 0,-54"),
    "Romance": Genre(0.17, (-0.2, 0.75, 0.1), "ff9fbd ffe6dc e88aa8 a8476b ff5c8a fff7f5",
        (Layer(("light/28 -100,-100 100,100",), 15, y=(0.0, 1.2), size=(0.04, 0.15)),
         Layer((HEART.format("accent/45"),), 1, (0.35, 0.65), (0.45, 0.7), (0.35, 0.5), (-0.2, 0.2))),
        Layer((HEART.format("tint"), "round mirror tint 0,-60 45,-95 60,-20 0,100"), 20, turn=(-0.9, 0.9)),
        "hotpink 70,-95 -12,-160 -15,-60; hotpink 70,-95 150,-160 155,-50; deeppink 50,-117 90,-77"),
    "Sci-Fi": Genre(0.20, (0.6, -0.2, -0.2), "060a24 1f6f9f 12335e 070d22 39f0ff e8fbff",
        (Layer((PLANET,), 1, (0.15, 0.85), (0.25, 0.55), (0.12, 0.26)),
         Layer((SKYSCRAPER,), 7, (-0.05, 1.05), (0.5, 1.0), (0.8, 1.2), layout="row")),
        Layer(("mirror tint 0,-100 87,-50 87,50 0,100; mirror near 0,-60 52,-30 52,30 0,60",
               "box tint -100,-30 100,30; box tint -30,-100 30,100; tint -72,-72 72,72; near -35,-35 35,35"),
              10, turn=(-0.8, 0.8)),
        "mirror aqua/70 0,-12 108,-10 98,48 22,58 0,44; white/50 -80,-4 -50,-4 -75,44 -92,40;"
        "twin silver 88,-28 136,58; silver 110,0 120,0 145,-150 138,-150; crimson 131,-162 153,-140"),
    "Slice of Life": Genre(0.11, (-0.5, 0.5, -0.4), "a8dcef fdf4dc a9cf9c 6f9e7d f7a072 ffffff",
        (Layer((CLOUD,), 4, y=(0.1, 0.6), size=(0.08, 0.15)),
         Layer(("far -100,-10 100,120",), 2, (-0.2, 1.2), (0.95, 1.05), (0.9, 1.1), layout="row"),
         Layer((POLE,), 1, (0.05, 0.95), (0.65, 0.85), (0.9, 1.1))),
        Layer(("round mirror tint 0,-110 45,-40 45,30 5,80 5,130", CLOUD), 11, turn=(-0.3, 0.3)),
        "mirror midnightblue 0,210 50,105 135,155 115,230 0,275; mirror white 0,252 112,212 116,222 0,264;"
        "twin crimson 0,255 55,225 50,305; crimson -12,240 12,272"),
    "Supernatural": Genre(0.14, (0.05, 0.1, 0.75), "0d0b1f 4b2f72 231640 0b0815 8ff0a4 e7e0ff",
        (Layer(("light/25 -34,-34 34,34; light -22,-22 22,22",), 1, (0.2, 0.8), (0.2, 0.45), (0.8, 1.2)),
         Layer((TORII,), 1, (0.3, 0.7), (0.4, 0.65), (0.9, 1.2))),
        Layer((FLAME, DROP), 13, turn=(-0.15, 0.15)),
        "twin linen 22,-98 88,-205 112,-55; twin crimson 44,-98 84,-170 98,-68; mirror crimson 0,-88 12,-64 0,-40"),
}

# A figure wears one of each, in head radii around the middle of the face: back hair, neck and coat, tie, ...
FIGURE_COLOURS = {
    "skin": ("peachpuff", "navajowhite", "burlywood", "peru"),
    "hair": ("#282230", "#5c3a28", "#5a78c8", "#56a082", "#e0b45c", "#c4463c", "#ec96be", "#d8deeb"),
    "iris": ("royalblue", "seagreen", "firebrick", "darkorchid", "sienna", "goldenrod"),
}
FIGURE: tuple[tuple[str, ...], ...] = (
    ("round mirror hair 0,-132 80,-126 128,-50 155,275 60,250 0,240; round mirror dark_hair 0,40 98,40 120,260 0,240",
     "round mirror hair 0,-132 85,-124 134,-30 140,80 95,135 0,125; round mirror dark_hair 0,40 95,40 110,110 0,120",
     "mirror hair 0,-165 22,-128 70,-168 82,-112 142,-118 118,-58 168,-28 122,8 150,62 100,62 0,62",
     "round mirror hair 0,-132 80,-126 122,-40 112,60 0,60; round twin hair 105,-70 195,-90 215,60 150,210 155,60"),
    ("mirror skin 0,60 30,60 38,150 0,150; mirror dark_skin 0,88 31,88 34,118 0,132;"
     "round mirror coat 0,112 0,112 38,114 132,148 178,240 200,500 210,900 0,900;"
     "round dark_coat 60,118 132,148 178,240 200,500 210,900 90,900 70,300; mirror light 0,118 42,113 0,215",),
    ("mirror accent 0,150 9,150 17,270 0,295", "mirror dark_near 0,205 5,205 5,600 0,600",
     "round mirror accent 0,150 10,140 60,125 55,185 10,165 0,170"),
    ("round mirror skin 0,-108 70,-104 102,-30 96,30 58,82 0,108; twin tomato/30 44,46 78,60;"
     "twin black 22,-10 64,52; twin white 27,-2 60,52; twin iris 26,-6 61,52; twin black 36,6 51,38;"
     "twin white 30,0 44,18; round twin hair 20,-26 44,-36 66,-22 44,-31",),
    ("crimson/80 -9,64 9,71", "round maroon -16,62 16,62 10,76 -10,76", "box maroon/80 -12,66 12,69"),
    ("mirror hair 0,-118 65,-110 110,-40 116,70 98,12 80,-32 58,4 38,-42 18,-4 0,-40",
     "round mirror hair 0,-118 65,-112 112,-40 120,90 98,10 70,-38 30,-66 0,-92",
     "hair -116,70 -112,-40 -65,-110 0,-120 65,-110 110,-40 118,70 96,5 70,-45 25,-8 -8,-52 -45,2 -68,-40 -98,8"),
)
