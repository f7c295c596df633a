"""The phones of TIMIT and how they are grouped (Lee and Hon, 1989, table I).

TIMIT is transcribed in 61 symbols. Models are trained on 48 classes, and scored on 39, in which the members
of each of these groups count as the same: {cl, vcl, epi, sil}, {el, l}, {en, n}, {sh, zh}, {ao, aa},
{ih, ix}, {ah, ax}.
"""

SILENCE = "sil"
DELETED = "q"  # the glottal stop, the one symbol that is in no class

# The symbols of each of the 48 classes.
CLASSES = {
    "aa": ("aa",),
    "ae": ("ae",),
    "ah": ("ah",),
    "ao": ("ao",),
    "aw": ("aw",),
    "ax": ("ax", "ax-h"),
    "ay": ("ay",),
    "b": ("b",),
    "ch": ("ch",),
    "cl": ("pcl", "tcl", "kcl"),
    "d": ("d",),
    "dh": ("dh",),
    "dx": ("dx",),
    "eh": ("eh",),
    "el": ("el",),
    "en": ("en",),
    "epi": ("epi",),
    "er": ("er", "axr"),
    "ey": ("ey",),
    "f": ("f",),
    "g": ("g",),
    "hh": ("hh", "hv"),
    "ih": ("ih",),
    "ix": ("ix",),
    "iy": ("iy",),
    "jh": ("jh",),
    "k": ("k",),
    "l": ("l",),
    "m": ("m", "em"),
    "n": ("n", "nx"),
    "ng": ("ng", "eng"),
    "ow": ("ow",),
    "oy": ("oy",),
    "p": ("p",),
    "r": ("r",),
    "s": ("s",),
    "sh": ("sh",),
    "sil": ("h#", "pau"),
    "t": ("t",),
    "th": ("th",),
    "uh": ("uh",),
    "uw": ("uw", "ux"),
    "v": ("v",),
    "vcl": ("bcl", "dcl", "gcl"),
    "w": ("w",),
    "y": ("y",),
    "z": ("z",),
    "zh": ("zh",),
}

# 60 of the 61 symbols -> 48.
TRAINED_AS = {symbol: name for name, symbols in CLASSES.items() for symbol in symbols}

# 48 -> 39.
SCORED_AS = {name: name for name in CLASSES} | {
    "cl": "sil",
    "vcl": "sil",
    "epi": "sil",
    "el": "l",
    "en": "n",
    "zh": "sh",
    "ao": "aa",
    "ix": "ih",
    "ax": "ah",
}

SYMBOLS = frozenset({*TRAINED_AS, DELETED})
