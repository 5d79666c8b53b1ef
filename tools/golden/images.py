#!/usr/bin/env python3
"""Writes testing/golden/image/: small pictures of the kinds that the codecs must read or refuse.

Made with Pillow 13, so by another writer than the one under test. NAME.npy holds the pixels that Pillow itself reads,
[13][7][channels]; pictures without one must be refused, or are looked at otherwise by the test.

    python3 tools/golden/images.py
"""
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "testing", "golden", "image")
W, H = 7, 13
y, x = np.mgrid[0:H, 0:W]
rgb = np.stack([x * 36, y * 19, (x + y) * 13], -1).astype(np.uint8)
alpha = ((x * y * 3) % 256).astype(np.uint8)
infotext = "a red circle, \u00e9clair \u65e5\u672c\nNegative prompt: none\nSteps: 20, Seed: 1"


def out(name):
    return os.path.join(OUT, name)


def save(name, image, mode, **options):
    image.save(out(name), **options)
    if mode:
        pixels = np.asarray(Image.open(out(name)).convert(mode))
        np.save(out(name.rsplit(".", 1)[0] + ".npy"), pixels.reshape(H, W, -1))


picture = Image.fromarray(rgb)
rgba = Image.fromarray(np.dstack([rgb, alpha]))
grey = Image.fromarray(alpha)
text = PngImagePlugin.PngInfo()
text.add_text("parameters", infotext)
text.add_text("Software", "na\u00efve", zip=True)
save("rgb_text.png", picture, "RGB", pnginfo=text)
save("rgba.png", rgba, "RGBA")
save("grey_alpha.png", Image.merge("LA", (grey, Image.fromarray(rgb[..., 1]))), "RGBA")
save("palette.png", picture.quantize(16), "RGB", transparency=None)
save("palette_alpha.png", picture.quantize(8), "RGBA", transparency=3)
save("bits1.png", grey.convert("1"), "L")
save("plain.jpg", picture, "RGB", quality=90)
save("progressive.jpg", picture, "RGB", quality=90, progressive=True)
save("grey.jpg", grey, "L", quality=90)
save("cmyk.jpg", picture.convert("CMYK"), None)
save("lossless.webp", picture, "RGB", lossless=True, exact=True)
save("alpha.webp", rgba, "RGBA", lossless=True, exact=True)
save("animation.webp", picture, None, save_all=True, append_images=[picture.rotate(180)], duration=100)

exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 26) + bytes(4)
comment = b"UNICODE\0" + infotext.encode("utf-16-be")
exif += b"\x01\0" + struct.pack("<HHII", 0x9286, 7, len(comment), 44) + bytes(4) + comment
picture.save(out("exif_little.jpg"), quality=90, exif=b"Exif\0\0" + exif)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header, rows, *extra):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra)
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


deep = ((x * 9000 + y * 3) % 65536).astype(">u2")
rows = b"".join(b"\0" + deep[r].tobytes() for r in range(H))
with open(out("grey16.png"), "wb") as f:
    f.write(png(struct.pack(">IIBBBBB", W, H, 16, 0, 0, 0, 0), rows))
np.save(out("grey16.npy"), np.rint(deep / 257).astype(np.uint8).reshape(H, W, 1))
bomb = chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(16 << 20), 9))
with open(out("text_bomb.png"), "wb") as f:
    f.write(png(struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), b"\0\x7f", bomb))

# Adam7, by hand: Pillow does not write it.
passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
rows = b""
for x0, y0, dx, dy in passes:
    part = rgb[y0::dy, x0::dx]
    rows += b"".join(b"\0" + r.tobytes() for r in part) if part.size else b""
with open(out("interlaced.png"), "wb") as f:
    f.write(png(struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 1), rows))
np.save(out("interlaced.npy"), rgb)

# how a picture lies: what ImageOps.exif_transpose makes of it; stored grey, all eight ways
tall = Image.fromarray(np.clip(x * 20 + y * 9, 0, 255).astype(np.uint8))
for way in range(1, 9):
    marks = Image.Exif()
    marks[0x0112] = way
    tall.save(out("turned_%d.jpg" % way), quality=95, exif=marks)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(out("turned_%d.jpg" % way))))
    np.save(out("turned_%d.npy" % way), turned[..., None])
