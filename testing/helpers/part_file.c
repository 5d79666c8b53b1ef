/* part_file.c - see part_file.h. */
#include "testing/helpers/part_file.h"

#include <stdio.h>
#include <string.h>

#include "testing/helpers/test.h"

#include "testing/helpers/model_access.h"
#include "testing/helpers/safetensors_writer.h"

size_t part_file(const char *from, const char *cut, const char *put, size_t byte,
                 unsigned char bits, const char *to)
{
    static unsigned char data[1 << 20];
    struct safetensors st;
    struct dr_error err = { 0 };
    struct st_writer *w = st_writer_new();
    size_t n = 0;
    if (st_open(from, &st, &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < st.header.n_tensors; i++) {
        const struct st_tensor *t = &st.header.tensors[i];
        char name[300];
        size_t bytes = (size_t)(t->end - t->begin), size = dtype_size(t->dtype);
        if (strncmp(t->name, cut, strlen(cut)))
            continue;
        assert_true(bytes <= sizeof data && byte < size);
        memcpy(data, st_data(&st, t), bytes);
        for (size_t k = 0; k < bytes; k += size)
            data[k + byte] ^= bits;
        snprintf(name, sizeof name, "%s%s", put, t->name + strlen(cut));
        st_writer_add(w, name, dtype_name(t->dtype), t->shape.n, t->shape.d, data);
        n++;
    }
    st_writer_save(w, to);
    st_writer_free(w);
    st_close(&st);
    return n;
}
