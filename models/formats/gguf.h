/* gguf.h - the GGUF container, as a table of tensors.
 *
 * Layout, all little-endian: "GGUF"; uint32 version; uint64 number of tensors; uint64 number of
 * entries; the entries, each a key, a uint32 type and a value; the tensors, each a name, a uint32
 * number of dimensions, these as uint64 with the innermost first, a uint32 type and a uint64
 * offset; then, aligned, the data. A string is a uint64 length and its bytes. Alignment is the
 * entry "general.alignment", else 32. The header is untrusted: lengths and counts are compared with
 * the bytes that are left before anything is allocated, and no tensor may overlap another, leave
 * bytes that belong to none, or lie outside.
 *
 * Two dialects store diffusion models. ComfyUI-GGUF's files are UNets alone
 * ("general.architecture" is "sdxl" or "sd1"); a tensor whose innermost dimension did not fit
 * blocks of 256 is stored as another shape, and its own is the entry "comfy.gguf.orig_shape.NAME".
 * stable-diffusion.cpp's files are whole checkpoints. Which of them a file is follows from its
 * tensors' names, as with safetensors (classify.h, key_map.h).
 *
 * Reference: docs/gguf.md of the ggml project, versions 2 and 3; gguf_reader.py of the package gguf
 * 0.19; ComfyUI-GGUF, loader.py.
 */
#ifndef DR_MODELS_FORMATS_GGUF_H
#define DR_MODELS_FORMATS_GGUF_H

#include "models/formats/safetensors.h"

#define GGUF_MAGIC "GGUF"

/* Whether bytes begin like such a file. */
bool gguf_begins(const uint8_t *bytes, size_t n);

/* Parses the first n bytes of a file of file_size bytes, which hold at least its header. Texts and
 * numbers of entries become metadata; arrays are passed over, but for original shapes. Errors as
 * those of st_parse. */
int gguf_parse(const uint8_t *bytes, size_t n, uint64_t file_size, const char *what,
               struct st_header *ret, struct dr_error *err);

#endif
