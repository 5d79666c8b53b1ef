/* op.c - the table of ops.def. */
#include "backend/ops/op.h"

#include "base/members.h"

static const struct op_info *const infos[OP_KIND_COUNT] = {
#define OP(name) [OP_KIND_##name] = &op_info_##name,
#include "backend/ops/ops.def"
#undef OP
};

static const char *const lines[OP_KIND_COUNT] = {
#define OP(name) [OP_KIND_##name] = #name,
#include "backend/ops/ops.def"
#undef OP
};

int op_work_check(const struct op_work *work, const char *name, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "phases", work->phases > 0 || work->phases_of },
        { "tiles", work->tiles != NULL },
        { "run", work->run != NULL },
    };
    return dr_members_check("kernel", name, members, sizeof members / sizeof *members, err);
}

int op_info_check(const struct op_info *info, const char *line, struct dr_error *err)
{
    const struct dr_member members[] = {
        { "check", info->check != NULL }, { "reference", info->reference != NULL },
        { "setup", info->setup != NULL }, { "cases", info->cases != NULL },
        { "n_cases", info->n_cases > 0 }, { "tolerance", info->tolerance >= 0 },
    };
    int r = dr_members_check_name("op", line, info->name, err);
    if (!r)
        r = dr_members_check("op", line, members, sizeof members / sizeof *members, err);
    return r ? r : op_work_check(info->reference, line, err);
}

int op_tables_check(struct dr_error *err)
{
    int r = 0;
    for (int i = 0; !r && i < OP_KIND_COUNT; i++)
        r = op_info_check(infos[i], lines[i], err);
    return r;
}

const struct op_info *op_info(enum op_kind kind)
{
    return (unsigned)kind < OP_KIND_COUNT ? infos[kind] : NULL;
}
