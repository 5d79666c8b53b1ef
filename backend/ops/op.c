/* op.c - the table of ops.def. */
#include "backend/ops/op.h"

static const struct op_info *const infos[OP_KIND_COUNT] = {
#define OP(name) [OP_KIND_##name] = &op_info_##name,
#include "backend/ops/ops.def"
#undef OP
};

const struct op_info *op_info(enum op_kind kind)
{
    return (unsigned)kind < OP_KIND_COUNT ? infos[kind] : NULL;
}
