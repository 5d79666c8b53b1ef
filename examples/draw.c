/* draw.c - the engine as a library, from start to a picture on disk.
 *
 *     draw FOLDER PROMPT...        one picture a prompt, with the shipped model, into FOLDER
 *
 * Compiled where Darkroom is installed: cc draw.c $(pkg-config --cflags --libs darkroom)
 */
#include <stdio.h>
#include <string.h>

#include <darkroom.h>

/* Events come one at a time, as JSON; a real program would parse them. */
static void on_event(void *user, const char *json)
{
    int *failures = user;
    *failures += strstr(json, "\"success\":false") != NULL;
    if (!strstr(json, "\"status\":\"ready\""))
        puts(json);
}

/* Writes text as the inside of a JSON string; 0 when it does not fit. */
static int quote(const char *text, char *dst, size_t size)
{
    size_t n = 0;
    for (; *text && n + 7 < size; text++) {
        if (*text == '"' || *text == '\\')
            n += (size_t)snprintf(dst + n, size - n, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            n += (size_t)snprintf(dst + n, size - n, "\\u%04x", *text);
        else
            dst[n++] = *text;
    }
    dst[n] = '\0';
    return *text == '\0';
}

int main(int argc, char **argv)
{
    struct darkroom *engine;
    char options[1200], folder[1000], prompt[4000], message[8000], error[512];
    int failures = 0;
    if (argc < 3 || !quote(argv[1], folder, sizeof folder)) {
        fprintf(stderr, "usage: draw FOLDER PROMPT...\n");
        return 2;
    }
    snprintf(options, sizeof options, "{\"roots\": [\"%s\"]}", folder);
    if (darkroom_open(options, on_event, &failures, &engine, error, sizeof error) < 0) {
        fprintf(stderr, "draw: %s\n", error);
        return 1;
    }
    for (int i = 2; i < argc; i++) {
        if (!quote(argv[i], prompt, sizeof prompt)) {
            fprintf(stderr, "draw: prompt %d is too long\n", i - 1);
            failures++;
            continue;
        }
        snprintf(
            message, sizeof message,
            "{\"type\": \"generate\", \"request_id\": \"draw-%d\", \"data\": {\"prompt\": \"%s\","
            " \"steps\": 20, \"seed\": %d, \"save_path\": \"%s\"}}",
            i - 1, prompt, i, folder);
        darkroom_submit(engine, message);
    }
    darkroom_drain(engine);
    darkroom_close(engine);
    return failures ? 1 : 0;
}
