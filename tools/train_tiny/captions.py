#!/usr/bin/env python3
"""The picture language of the small model: what its captions say, and which of them it may learn from.

A caption is held out of training when its sha256 modulo 3 is 0 (held_out below); the generator never
draws a training picture for one.  `captions.py` run as a program writes the list that the caption test
reads: 30 held-out one-shape, 30 held-out two-shape and 30 trained captions, each group in hash order.

usage: captions.py [OUTPUT.json]
"""
import hashlib
import itertools
import json
import random
import sys

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (245, 215, 40),
    "purple": (155, 60, 200),
    "orange": (250, 130, 20),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
SIZES = ("small", "", "big")
# Where the centre of a lone shape lies, as fractions of width and height.
PLACES = {
    "": (0.5, 0.5),
    "on the left": (0.27, 0.5),
    "on the right": (0.73, 0.5),
    "at the top": (0.5, 0.27),
    "at the bottom": (0.5, 0.73),
}
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = {"two": 2, "three": 3}
DEFAULT_BACKGROUND = "white"
KINDS = ("one", "two", "count")


def digest(caption):
    return hashlib.sha256(caption.encode("utf-8")).hexdigest()


def held_out(caption):
    return int(digest(caption), 16) % 3 == 0


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def phrase(*words):
    """The words that are not empty, after the article that the first of them takes."""
    words = [w for w in words if w]
    return " ".join([article(words[0])] + words)


def behind(background):
    return f" on {article(background)} {background} background" if background else ""


def caption_of(scene):
    """The one canonical caption of a scene."""
    items = scene["items"]
    if scene["kind"] == "one":
        it = items[0]
        text = phrase(it["size"], it["colour"], it["shape"])
        if scene["place"]:
            text += " " + scene["place"]
    elif scene["kind"] == "two":
        first, second = (phrase(it["colour"], it["shape"]) for it in items)
        text = f"{first} {scene['relation']} {second}"
    else:
        plural = items[0]["shape"] + ("es" if items[0]["shape"].endswith("s") else "s")
        text = f"{scene['count']} {items[0]['colour']} {plural}"
    return text + behind(scene["background"])


def backgrounds(*taken):
    """The backgrounds on which shapes of the taken colours can be seen; "" says none (white)."""
    return [b for b in ["", *COLOURS] if (b or DEFAULT_BACKGROUND) not in taken]


def scenes(kind):
    """Every scene of a kind, in a fixed order."""
    if kind == "one":
        for colour, shape, size, place in itertools.product(COLOURS, SHAPES, SIZES, PLACES):
            for b in backgrounds(colour):
                item = {"colour": colour, "shape": shape, "size": size}
                yield {"kind": kind, "items": [item], "place": place, "background": b}
    elif kind == "two":
        things = list(itertools.product(COLOURS, SHAPES))
        for (c1, s1), (c2, s2) in itertools.product(things, things):
            if c1 == c2:
                continue
            for relation, b in itertools.product(RELATIONS, backgrounds(c1, c2)):
                items = [{"colour": c1, "shape": s1, "size": ""}, {"colour": c2, "shape": s2, "size": ""}]
                yield {"kind": kind, "items": items, "relation": relation, "background": b}
    else:
        for colour, shape, count in itertools.product(COLOURS, SHAPES, COUNTS):
            for b in backgrounds(colour):
                item = {"colour": colour, "shape": shape, "size": ""}
                yield {"kind": kind, "items": [item], "count": count, "background": b}


def reworded(caption, rng):
    """The caption said another way; the meaning is the same.  rng is a random.Random."""
    swaps = {
        "left of": "to the left of", "right of": "to the right of", "above": "over", "below": "under",
        "on the left": "at the left", "on the right": "at the right", "big": "large", "small": "little",
        "at the top": "near the top", "at the bottom": "near the bottom",
    }
    how = rng.randrange(4)
    if how == 0 and caption.split()[0] in ("a", "an"):
        return caption.split(" ", 1)[1]
    if how == 1:
        return caption + "."
    for old, new in swaps.items():
        if f" {old} " in f" {caption} ":
            return f" {caption} ".replace(f" {old} ", f" {new} ").strip()
    return "a picture of " + caption


class Scenes:
    """Draws scenes that may be trained on: none whose caption is held out."""

    # Small ones a second time: they take the most learning, being few latents wide.
    WEIGHTS = {"small": 0.14, "one": 0.27, "two": 0.47, "count": 0.12}

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.all = {k: list(scenes(k)) for k in KINDS}
        self.all["small"] = [s for s in self.all["one"] if s["items"][0]["size"] == "small"]

    def next(self):
        """A scene and one of the ways to say it."""
        while True:
            kind = self.rng.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()))[0]
            scene = self.rng.choice(self.all[kind])
            caption = caption_of(scene)
            if held_out(caption):
                continue
            if self.rng.random() < 0.08:
                other = reworded(caption, self.rng)
                caption = caption if held_out(other) else other
            return scene, caption


def expectation(scene, caption):
    """What a checker needs to know of a scene, without knowing the language."""
    out = {"caption": caption, "kind": scene["kind"],
           "background": scene["background"] or DEFAULT_BACKGROUND,
           "shapes": [dict(it) for it in scene["items"]]}
    if scene["kind"] == "one":
        out["place"] = {"": "centre", "on the left": "left", "on the right": "right", "at the top": "top",
                        "at the bottom": "bottom"}[scene["place"]]
    elif scene["kind"] == "two":
        out["relation"] = {"left of": "left", "right of": "right"}.get(scene["relation"], scene["relation"])
    else:
        out["count"] = COUNTS[scene["count"]]
    for it in out["shapes"]:
        it["size"] = it["size"] or "medium"
    return out


def test_list(n=30):
    pairs = {k: sorted(((caption_of(s), s) for s in scenes(k)), key=lambda p: digest(p[0])) for k in KINDS}
    one = [p for p in pairs["one"] if held_out(p[0])][:n]
    two = [p for p in pairs["two"] if held_out(p[0])][:n]
    seen = sorted((p for k in KINDS for p in pairs[k] if not held_out(p[0])), key=lambda p: digest(p[0]))[:n]
    return {"held-out one shape": one, "held-out two shapes": two, "trained": seen}


def document():
    """The content of testing/golden/tiny/captions.json."""
    doc = {"palette": {k: list(v) for k, v in COLOURS.items()}, "captions": []}
    for group, pairs in test_list().items():
        doc["captions"] += [{"group": group, **expectation(s, c)} for c, s in pairs]
    return doc


def main():
    doc = document()
    out = open(sys.argv[1], "w", encoding="utf-8") if len(sys.argv) > 1 else sys.stdout
    with out:
        out.write('{"palette": ' + json.dumps(doc["palette"]) + ',\n "captions": [\n  ')
        out.write(",\n  ".join(json.dumps(c) for c in doc["captions"]) + "\n]}\n")


if __name__ == "__main__":
    main()
