/* memory_optimizer.c - see memory_optimizer.h. */
#include "inference/memory_optimizer.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Address space of what no plan counts: stacks, heaps of threads. */
enum { ADDRESS_RESERVE = 32 << 20 };

const char *job_stage_name(enum job_stage stage)
{
    static const char *const names[STAGE_COUNT] = { "text", "init_image", "context", "denoise",
                                                    "decode" };
    return names[stage];
}

size_t memory_block(const struct memory_plan *plan)
{
    size_t most = 0;
    for (int s = 0; s < STAGE_COUNT; s++)
        most = plan->stage[s].workspace > most ? plan->stage[s].workspace : most;
    return most;
}

/* Resident bytes at each stage under the present decisions; the largest. */
static size_t peak_of(const struct memory_plan *plan)
{
    size_t other = 0, kept_weights = 0, peak = 0;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        other += t == DR_TAG_ACTIVATION ? 0 : plan->tagged[t];
    for (int s = 0; s < STAGE_COUNT; s++) {
        const struct stage_use *u = &plan->stage[s];
        size_t block = plan->keep ? memory_block(plan) : u->workspace;
        size_t now = plan->baseline + other + kept_weights + u->mapped + u->kept + block;
        now -= s == STAGE_DECODE ? plan->never_both : plan->pictures;
        peak = now > peak ? now : peak;
        /* what the context stage reads is the UNet's: it stays until the next one is over */
        if (s == STAGE_CONTEXT || !plan->drop[s])
            kept_weights += u->mapped;
        else if (s == STAGE_DENOISE)
            kept_weights -= plan->stage[STAGE_CONTEXT].mapped;
    }
    return peak;
}

/* Private bytes that are still to be allocated. */
static size_t private_need(const struct memory_plan *plan)
{
    size_t other = 0, most = 0, now = plan->held;
    for (int t = 0; t < DR_TAG_COUNT; t++)
        other += t == DR_TAG_ACTIVATION ? 0 : plan->tagged[t];
    for (int s = 0; s < STAGE_COUNT; s++) {
        size_t block = plan->keep ? memory_block(plan) : plan->stage[s].workspace;
        size_t stage = block + plan->stage[s].kept;
        most = stage > most ? stage : most;
    }
    return other + most > now ? other + most - now : 0;
}

/* Lowers the limit to one on the scale of resident bytes. */
static void lower(struct memory_plan *plan, size_t limit, const struct system_bound *bound)
{
    if (*plan->bound.source && limit >= plan->limit)
        return;
    plan->limit = limit;
    plan->bound = *bound;
}

/* Lowers the limit by a bound that does not count resident bytes: what is missing there is missing
 * here. */
static void lower_by_need(struct memory_plan *plan, size_t need, const struct system_bound *bound)
{
    if (!*bound->source)
        return;
    size_t missing = need > bound->left ? need - bound->left : 0;
    size_t spare = need > bound->left ? 0 : bound->left - need;
    size_t most = spare > SIZE_MAX - plan->peak ? SIZE_MAX : plan->peak + spare;
    lower(plan, missing ? plan->peak - (missing < plan->peak ? missing : plan->peak) : most, bound);
}

void memory_decide(struct memory_plan *plan)
{
    const struct system_memory *now = &plan->system;
    const struct system_bound asked = { plan->asked, plan->asked, MEMORY_ASKED };
    memset(&plan->bound, 0, sizeof plan->bound);
    plan->limit = SIZE_MAX;
    if (plan->asked)
        lower(plan, plan->asked, &asked);
    if (!plan->asked && *now->machine.source)
        lower(plan, (now->machine.left + plan->held) / 4 * 3, &now->machine);
    if (!plan->asked && *now->group.source)
        lower(plan, (now->group.left + plan->held) / 4 * 3, &now->group);

    size_t group = *now->group.source ? now->group.left + plan->held : SIZE_MAX;
    size_t whole = group < plan->limit ? group : plan->limit;
    size_t half = whole / 2, less = whole / 5 * 2;
    memset(plan->drop, 0, sizeof plan->drop);
    plan->keep = false;
    plan->drop[STAGE_TEXT] = plan->drop[STAGE_INIT_IMAGE] = peak_of(plan) > less;
    plan->drop[STAGE_DENOISE] = peak_of(plan) > half;
    plan->drop[STAGE_DECODE] = peak_of(plan) > half;
    plan->peak = peak_of(plan);
    plan->keep = true;
    size_t kept = peak_of(plan);
    plan->keep = kept <= half || kept <= plan->peak;
    plan->peak = plan->keep ? kept : plan->peak;

    size_t need = private_need(plan);
    lower_by_need(plan, need, &now->group);
    lower_by_need(plan, need, &now->data);
    lower_by_need(plan, need + plan->unmapped + ADDRESS_RESERVE, &now->address);
}

static void size_text(size_t bytes, char dst[32])
{
    bool large = bytes >= 1000 * 1000 * 1000;
    snprintf(dst, 32, large ? "%.2f GB" : "%.1f MB", (double)bytes / (large ? 1e9 : 1e6));
}

int memory_admit(const struct memory_plan *plan, struct dr_error *err)
{
    if (plan->peak <= plan->limit)
        return 0;
    char needs[32], limit[32], whole[32];
    size_text(plan->peak, needs);
    size_text(plan->limit, limit);
    size_text(plan->bound.limit, whole);
    return dr_fail(
        err, DR_ENOMEM,
        "needs %s, but only %s is allowed: limit %s (%s); try a smaller picture or batch", needs,
        limit, whole, plan->bound.source);
}

size_t memory_spare(const struct memory_plan *plan)
{
    return plan->limit > plan->peak ? plan->limit - plan->peak : 0;
}
