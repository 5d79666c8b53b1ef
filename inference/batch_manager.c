/* batch_manager.c - see batch_manager.h. */
#include "inference/batch_manager.h"

#include "models/unet.h"

int batch_forward(struct unet *u, struct exec *x, const struct unet_row *rows, int n, int most,
                  int64_t h, int64_t w, struct dr_error *err)
{
    for (int first = 0; first < n; first += most) {
        int count = n - first < most ? n - first : most;
        int r = unet_forward(u, x, rows + first, count, h, w, err);
        if (r < 0)
            return r;
    }
    return 0;
}
