"""Drawing of scenes: flat shapes, anti-aliased by supersampling, with a little jitter in place and size."""
import math

import numpy as np
from PIL import Image, ImageDraw

import captions

SUPER = 4
RADIUS = {"small": 0.13, "": 0.21, "big": 0.28}  # of the shorter side
PAIR_RADIUS = 0.185
COUNT_RADIUS = {2: 0.17, 3: 0.135}
PAIR_CENTRES = {  # of the first and the second shape, as fractions of width and height
    "left of": ((0.26, 0.5), (0.74, 0.5)),
    "right of": ((0.74, 0.5), (0.26, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
    "below": ((0.5, 0.74), (0.5, 0.26)),
}
COUNT_CENTRES = {2: ((0.28, 0.5), (0.72, 0.5)), 3: ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5))}


def polygon(shape, x, y, r):
    """The outline of a straight-sided shape of radius r about (x, y)."""
    if shape == "square":
        a = 0.86 * r
        return [(x - a, y - a), (x + a, y - a), (x + a, y + a), (x - a, y + a)]
    if shape == "triangle":
        return [(x, y - r), (x + 1.02 * r, y + 0.8 * r), (x - 1.02 * r, y + 0.8 * r)]
    if shape == "star":
        spokes = [r * 1.1 if i % 2 == 0 else r * 0.46 for i in range(10)]
        return [(x + s * math.sin(math.pi * i / 5), y - s * math.cos(math.pi * i / 5)) for i, s in enumerate(spokes)]
    w = 0.32 * r
    return [(x - w, y - r), (x + w, y - r), (x + w, y - w), (x + r, y - w), (x + r, y + w), (x + w, y + w),
            (x + w, y + r), (x - w, y + r), (x - w, y + w), (x - r, y + w), (x - r, y - w), (x - w, y - w)]


def stamp(pen, shape, colour, hole, x, y, r):
    if shape in ("circle", "ring"):
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        if shape == "ring":
            q = 0.55 * r
            pen.ellipse([x - q, y - q, x + q, y + q], fill=hole)
    else:
        pen.polygon(polygon(shape, x, y, r), fill=colour)


def placed(scene):
    """(item, centre, radius) of each shape of the scene, in fractions of the sides."""
    items = scene["items"]
    if scene["kind"] == "one":
        return [(items[0], captions.PLACES[scene["place"]], RADIUS[items[0]["size"]])]
    if scene["kind"] == "two":
        return [(it, c, PAIR_RADIUS) for it, c in zip(items, PAIR_CENTRES[scene["relation"]])]
    n = captions.COUNTS[scene["count"]]
    return [(items[0], c, COUNT_RADIUS[n]) for c in COUNT_CENTRES[n]]


def inside(at, reach, length):
    """at, moved so that a shape reaching that far to both sides lies within 0..length."""
    return min(max(at, reach), length - reach)


def draw(scene, width, height, rng):
    """The scene as uint8 [height, width, 3].  rng (random.Random) moves and scales the shapes slightly."""
    k = SUPER
    back = captions.COLOURS[scene["background"] or captions.DEFAULT_BACKGROUND]
    picture = Image.new("RGB", (width * k, height * k), back)
    pen = ImageDraw.Draw(picture)
    side = min(width, height)
    for item, (cx, cy), radius in placed(scene):
        r = radius * side * rng.uniform(0.93, 1.07) * k
        x = inside((cx * width + rng.uniform(-0.025, 0.025) * side) * k, 1.15 * r, width * k)
        y = inside((cy * height + rng.uniform(-0.025, 0.025) * side) * k, 1.15 * r, height * k)
        stamp(pen, item["shape"], captions.COLOURS[item["colour"]], back, x, y, r)
    return np.asarray(picture.reduce(k))
