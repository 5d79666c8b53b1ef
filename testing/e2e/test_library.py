#!/usr/bin/env python3
"""libdarkroom.so as a foreign language sees it: loaded by ctypes, a tiny picture through the image callback, and the
same pixels as in the PNG of the same request.   usage: test_library.py SOURCE BUILD"""
import base64
import ctypes
import json
import os
import struct
import sys
import zlib

source, build = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
os.environ.pop("DARKROOM_SHARE", None)
lib = ctypes.CDLL(os.path.join(build, "libdarkroom.so"))
EVENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
IMAGE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                         ctypes.c_size_t, ctypes.c_int, ctypes.POINTER(ctypes.c_uint8))
lib.darkroom_code_name.restype = ctypes.c_char_p
lib.darkroom_version.restype = ctypes.c_char_p
lib.darkroom_open.argtypes = [ctypes.c_char_p, EVENT, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p,
                              ctypes.c_size_t]
lib.darkroom_set_image_callback.argtypes = [ctypes.c_void_p, IMAGE, ctypes.c_void_p]
for name in ("submit", "drain", "close"):
    getattr(lib, "darkroom_" + name).argtypes = [ctypes.c_void_p] + [ctypes.c_char_p] * (name == "submit")


def png_pixels(data):
    """Rows of an 8-bit RGB PNG, one after another."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
            assert (depth, color) == (8, 2)
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    raw, stride, before, rows = zlib.decompress(packed), width * 3, bytearray(width * 3), []
    for y in range(height):
        method, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride):
            left, up, corner = row[i - 3] if i > 2 else 0, before[i], before[i - 3] if i > 2 else 0
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda v: abs(guess - v))
            row[i] = (row[i] + (0, left, up, (left + up) // 2, nearest)[method]) & 255
        rows.append(bytes(row))
        before = row
    return width, height, b"".join(rows)


events, images, log = [], [], []


@EVENT
def on_event(_user, text):
    events.append(json.loads(text))
    log.append("answer" if events[-1].get("request_id") else "ready")


@IMAGE
def on_image(_user, request_id, index, width, height, stride, channels, pixels):
    rows = [ctypes.string_at(ctypes.addressof(pixels.contents) + y * stride, width * channels) for y in range(height)]
    images.append((request_id.decode(), index, width, height, channels, b"".join(rows)))
    log.append("image")
    return 0


engine, error = ctypes.c_void_p(), ctypes.create_string_buffer(512)
code = lib.darkroom_open(b'{"threads": 1, "kernels": "none such"}', on_event, None, ctypes.byref(engine), error, 512)
assert lib.darkroom_code_name(code) == b"INVALID_VALUE", (code, error.value)
code = lib.darkroom_open(b'{"threads": 1, "cache_limit": 0}', on_event, None, ctypes.byref(engine), error, 512)
assert code == 0, error.value.decode()
assert lib.darkroom_version().decode() in events[0]["message"]
request = {"prompt": "a red circle", "width": 64, "height": 48, "steps": 3, "seed": 5, "batch_size": 2, "precision": "f32"}


def ask(name, **more):
    message = {"type": "generate", "request_id": name, "data": dict(request, **more)}
    lib.darkroom_submit(engine, json.dumps(message).encode())
    lib.darkroom_drain(engine)
    assert events[-1]["request_id"] == name and events[-1]["success"], events[-1]
    return events[-1]["data"]


lib.darkroom_set_image_callback(engine, on_image, None)
pixels = ask("pixels")
png = ask("png", return_base64=True)
lib.darkroom_set_image_callback(engine, IMAGE(), None)
again = ask("again")
lib.darkroom_close(engine)

assert (pixels["encoding"], pixels["images"], pixels["format"]) == ("callback", [0, 1], "rgb"), pixels
assert (png["encoding"], again["encoding"]) == ("base64", "base64")
assert again["images"] == png["images"]
assert log == ["ready", "image", "image", "answer", "answer", "answer"], log
for i, (name, index, *shown) in enumerate(images):
    assert (name, index) == ("pixels", i)
    w, h, expected = png_pixels(base64.b64decode(png["images"][i]))
    assert (w, h) == (64, 48) and len(set(expected)) > 8
    assert shown == [w, h, 3, expected], f"picture {i}: other pixels than in its PNG"
