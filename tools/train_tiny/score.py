#!/usr/bin/env python3
"""Does a picture show what its caption says?  Looks at pixels only.

usage: score.py MODEL_FOLDER [--steps N] [--cfg S] [--sheet FILE.png] [--first N]
       score.py --check         judges drawings of the generator instead

Every pixel takes the palette colour nearest to it; shapes are the large connected pieces of one colour.
A piece's shape is the nearest of the ideal shapes by rotation- and scale-free complex moments (Flusser, 2000),
and by its hole.
"""
import argparse
import json
import math
import sys

import numpy as np

import captions
import draw

MINIMUM = 0.006  # of the picture: smaller pieces are the seams between two colours
RADII = {"small": (0.0, 0.17), "medium": (0.13, 0.26), "big": (0.235, 1.0)}
PLACES = {"centre": (0.5, 0.5), "left": (0.31, 0.5), "right": (0.69, 0.5), "top": (0.5, 0.31), "bottom": (0.5, 0.69)}


def labels_of(picture):
    """uint8 [h, w, 3] to the index of each pixel's palette colour."""
    palette = np.array(list(captions.COLOURS.values()), dtype=np.int64)
    return ((picture[:, :, None, :].astype(np.int64) - palette) ** 2).sum(-1).argmin(-1)


def pieces(mask):
    """The 4-connected pieces of a mask as lists of (y, x)."""
    height, width = mask.shape
    left = mask.copy()
    out = []
    for y, x in zip(*np.nonzero(mask)):
        if not left[y, x]:
            continue
        left[y, x] = False
        stack, found = [(y, x)], []
        while stack:
            v, u = stack.pop()
            found.append((v, u))
            for b, a in ((v - 1, u), (v + 1, u), (v, u - 1), (v, u + 1)):
                if 0 <= b < height and 0 <= a < width and left[b, a]:
                    left[b, a] = False
                    stack.append((b, a))
        out.append(np.array(found))
    return out


def hole(points, shape):
    """Area of the background that the piece encloses, relative to the piece and its holes."""
    mask = np.ones((shape[0] + 2, shape[1] + 2), bool)
    mask[points[:, 0] + 1, points[:, 1] + 1] = False
    inner = [p for p in pieces(mask) if (p.min() > 0) and not (p == 0).any()]
    enclosed = sum(len(p) for p in inner)
    return enclosed / (enclosed + len(points))


def moments(points):
    """Spread, and how strongly 3-, 4- and 5-fold the piece is; free of place, size and rotation."""
    z = points[:, 1] + 1j * points[:, 0].astype(float)
    z = (z - z.mean()) / math.sqrt(len(points))
    return np.array([np.mean(np.abs(z) ** 2) * 4, abs(np.mean(z ** 3)) * 10, abs(np.mean(z ** 4)) * 25,
                     abs(np.mean(z ** 5)) * 60, abs(np.mean(z ** 2)) * 10])


def ideal():
    out = {}
    for shape in captions.SHAPES:
        scene = {"kind": "one", "items": [{"colour": "black", "shape": shape, "size": "big"}], "place": "",
                 "background": ""}

        class Still:
            uniform = staticmethod(lambda a, b: (a + b) / 2)

        points = np.argwhere(labels_of(draw.draw(scene, 256, 256, Still)) == list(captions.COLOURS).index("black"))
        out[shape] = (moments(points), len(points) / (draw.RADIUS["big"] * 256) ** 2)
    return out


IDEAL = ideal()


def describe(points, shape):
    """Shape name, centre (x, y) and radius in fractions of width, height and shorter side."""
    if hole(points, shape) > 0.12:
        name = "ring"
    else:
        m = moments(points)
        name = min((s for s in IDEAL if s != "ring"), key=lambda s: np.square(m - IDEAL[s][0]).sum())
    radius = math.sqrt(len(points) / IDEAL[name][1]) / min(shape)
    y, x = (points.mean(0) + 0.5) / shape
    return name, x, y, radius


def seen(picture):
    """Background colour, and (colour, shape, x, y, radius) of each piece upon it."""
    names = list(captions.COLOURS)
    labels = labels_of(picture)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    background = np.bincount(edge, minlength=len(names)).argmax()
    found = []
    for number, name in enumerate(names):
        if number != background:
            for p in pieces(labels == number):
                # a seam is a line; a shape stays when its rim is taken off
                if len(p) >= MINIMUM * labels.size and core(p, labels.shape) >= 0.4 * len(p):
                    found.append((name, *describe(p, labels.shape)))
    return names[background], found


def core(points, shape):
    """Pixels of the piece all of whose four neighbours belong to it."""
    m = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    m[points[:, 0] + 1, points[:, 1] + 1] = True
    return int((m[1:-1, 1:-1] & m[:-2, 1:-1] & m[2:, 1:-1] & m[1:-1, :-2] & m[1:-1, 2:]).sum())


def shows(picture, want):
    """"" when the picture shows what is wanted, else the first thing that is wrong."""
    background, found = seen(picture)
    if background != want["background"]:
        return f"background {background}"
    if len(found) != (want.get("count") or len(want["shapes"])):
        return f"{len(found)} pieces"
    if want["kind"] == "two":
        first = [f for f in found if f[0] == want["shapes"][0]["colour"]]
        second = [f for f in found if f[0] == want["shapes"][1]["colour"]]
        if not first or not second:
            return "colours " + " ".join(f[0] for f in found)
        found = first + second
        dx, dy = second[0][2] - first[0][2], second[0][3] - first[0][3]
        along, across = {"left": (dx, dy), "right": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)}[want["relation"]]
        if along < 0.2 or abs(across) > 0.15:
            return f"apart by {dx:.2f} {dy:.2f}"
    wanted = want["shapes"] if want["kind"] != "count" else want["shapes"] * want["count"]
    for f, w in zip(found, wanted):
        if f[0] != w["colour"] or f[1] != w["shape"]:
            return f"{f[0]} {f[1]}"
    if want["kind"] == "one":
        _, _, x, y, radius = found[0]
        px, py = PLACES[want["place"]]
        if abs(x - px) > 0.12 or abs(y - py) > 0.12:
            return f"at {x:.2f} {y:.2f}"
        low, high = RADII[wanted[0]["size"]]
        if not low <= radius <= high:
            return f"radius {radius:.2f}"
    return ""


def test_drawings():
    """The checker agrees with the generator on pictures the generator drew, and refuses them shuffled."""
    scenes = captions.Scenes(7)
    some = [scenes.next()[0] for _ in range(150)]
    drawn = [(draw.draw(s, 128, 128, scenes.rng), captions.expectation(s, captions.caption_of(s))) for s in some]
    wrong = [(w["caption"], shows(p, w)) for p, w in drawn if shows(p, w)]
    mixed = sum(not shows(p, drawn[(i + 1) % len(drawn)][1]) for i, (p, _) in enumerate(drawn))
    return wrong, mixed


def main():
    if sys.argv[1:] == ["--check"]:
        wrong, mixed = test_drawings()
        sys.exit(f"refused: {wrong}; shuffled and passed: {mixed}" if wrong or mixed else 0)

    import torch
    from diffusers import StableDiffusionXLPipeline
    from PIL import Image

    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--first", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, nargs=2, default=[128, 128], help="width height")
    parser.add_argument("--sheet")
    args = parser.parse_args()
    torch.set_num_threads(2)
    pipe = StableDiffusionXLPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    groups = {g: [(c, captions.expectation(s, c)) for c, s in pairs]
              for g, pairs in captions.test_list(args.first).items()}
    everything, report = [], {}
    for group, pairs in groups.items():
        good = 0
        for seed in args.seeds:
            prompts = [c for c, _ in pairs]
            gens = [torch.Generator().manual_seed(seed) for _ in prompts]
            out = []
            for at in range(0, len(prompts), 15):
                out += list(pipe(prompts[at:at + 15], generator=gens[at:at + 15], guidance_scale=args.cfg,
                                 num_inference_steps=args.steps, width=args.size[0], height=args.size[1],
                                 output_type="np").images)
            for (caption, want), image in zip(pairs, out):
                picture = np.rint(image * 255).astype(np.uint8)
                why = shows(picture, want)
                good += not why
                everything.append((picture, want))
                if why:
                    print(f"  seed {seed}: {caption}: {why}")
        report[group] = good / (len(pairs) * len(args.seeds))
        print(f"{group}: {report[group]:.3f}", flush=True)
    n = len(everything)
    report["shuffled"] = sum(not shows(p, everything[(i + 37) % n][1]) for i, (p, _) in enumerate(everything)) / n
    report["overall"] = sum(report[g] for g in groups) / len(groups)
    print(json.dumps(report))
    if args.sheet:
        rows = [np.concatenate([p for p, _ in everything[i:i + 15]], 1) for i in range(0, n, 15)
                if len(everything[i:i + 15]) == 15]
        Image.fromarray(np.concatenate(rows, 0)).save(args.sheet)


if __name__ == "__main__":
    main()
