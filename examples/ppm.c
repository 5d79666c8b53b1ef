/* ppm.c - pixels straight from the engine: no file format, no base64, no JSON to parse.
 *
 *     ppm FILE PROMPT              one picture, with the shipped model, as a PPM file
 *
 * Compiled where Darkroom is installed: cc ppm.c $(pkg-config --cflags --libs darkroom)
 */
#include <stdio.h>
#include <string.h>

#include <darkroom.h>

#if DARKROOM_VERSION_NUMBER < 100
#error "darkroom.h 0.1.0 or later is needed"
#endif

struct picture {
    const char *file;
    int written;
};

/* The pixels are the engine's: they are used, or copied, before this returns. */
static int on_image(void *user, const char *request_id, int index, int width, int height,
                    size_t stride, int channels, const uint8_t *pixels)
{
    struct picture *p = user;
    int y, ok;
    FILE *f = fopen(p->file, "wb");
    (void)request_id;
    (void)index;
    if (!f)
        return 1; /* the job ends as cancelled */
    fprintf(f, "P6\n%d %d\n255\n", width, height);
    for (y = 0; y < height; y++)
        fwrite(pixels + (size_t)y * stride, (size_t)channels, (size_t)width, f);
    ok = !ferror(f);
    p->written = !fclose(f) && ok;
    return !p->written;
}

static void on_event(void *user, const char *json)
{
    (void)user;
    if (strstr(json, "\"success\":false"))
        fprintf(stderr, "ppm: %s\n", json);
}

static void on_log(void *user, enum darkroom_log_level level, const char *component,
                   const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "ppm: %s: %s\n", component, text);
}

int main(int argc, char **argv)
{
    struct darkroom *engine;
    struct picture picture = { NULL, 0 };
    char message[4200], error[512];
    int code;
    if (argc != 3 || strpbrk(argv[2], "\"\\\n\t") || strlen(argv[2]) > 4000) {
        fprintf(stderr, "usage: ppm FILE PROMPT   (a prompt without quotes and backslashes)\n");
        return 2;
    }
    picture.file = argv[1];
    darkroom_set_log(DARKROOM_LOG_WARN, on_log, NULL);
    code = darkroom_open(NULL, on_event, NULL, &engine, error, sizeof error);
    if (code < 0) {
        fprintf(stderr, "ppm: %s: %s\n", darkroom_code_name(code), error);
        return 1;
    }
    darkroom_set_image_callback(engine, on_image, &picture);
    snprintf(message, sizeof message,
             "{\"type\": \"generate\", \"request_id\": \"ppm\", \"data\": {\"prompt\": \"%s\","
             " \"width\": 128, \"height\": 128, \"steps\": 20, \"seed\": 1}}",
             argv[2]);
    darkroom_submit(engine, message);
    darkroom_drain(engine);
    darkroom_close(engine);
    return picture.written ? 0 : 1;
}
