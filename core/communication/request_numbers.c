/* request_numbers.c - fields that are lists of numbers: text "999,749,499,249", in JSON an array
 * too. A value is kept as text, with the digits that say each number as float32. */
#include <stdio.h>

#include "base/alloc.h"
#include "base/numbers.h"
#include "core/communication/request_impl.h"

int request_numbers_from_text(const char *path, const char *text, struct field_value *v,
                              struct dr_error *err)
{
    double number[REQUEST_NUMBERS];
    struct buf kept;
    int n = 0;
    int r = numbers_parse(path, text, number, REQUEST_NUMBERS, &n, err);
    if (r < 0)
        return r;
    buf_init(&kept, DR_TAG_BASE, 0);
    for (int i = 0; !r && i < n; i++)
        r = buf_printf(&kept, "%s%.9g", i ? "," : "", number[i]);
    v->text = r ? NULL : dr_strdup(DR_TAG_BASE, buf_text(&kept));
    buf_free(&kept);
    return v->text ? 0 : dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
}

int request_numbers_from_json(const char *path, const json_t *array, struct field_value *v,
                              struct dr_error *err)
{
    struct buf text;
    size_t i;
    json_t *item;
    int r = 0;
    buf_init(&text, DR_TAG_BASE, 0);
    json_array_foreach((json_t *)array, i, item)
    {
        if (!r && !json_is_number(item))
            r = dr_fail_field(err, DR_EINVAL, path, jx_kind(item), "numbers", NULL);
        if (!r && buf_printf(&text, "%s%.17g", i ? "," : "", json_number_value(item)) < 0)
            r = dr_fail(err, DR_ENOMEM, "%s: out of memory", path);
    }
    if (!r)
        r = request_numbers_from_text(path, buf_text(&text), v, err);
    buf_free(&text);
    return r;
}

json_t *request_numbers_json(const struct field_value *v)
{
    double number[REQUEST_NUMBERS];
    int n = 0;
    json_t *array = json_array();
    int r = numbers_parse("", v->text, number, REQUEST_NUMBERS, &n, NULL);
    for (int i = 0; !r && i < n; i++)
        r = jx_add(array, json_real(number[i]));
    if (r < 0) {
        json_decref(array);
        return NULL;
    }
    return array;
}
