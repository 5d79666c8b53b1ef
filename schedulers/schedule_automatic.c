/* schedule_automatic.c - the schedule that a sampler is usually drawn with: AUTOMATIC1111's choice
 * for each of its own (modules/sd_samplers_kdiffusion.py), normal for the others. */
#include "base/words.h"
#include "schedulers/schedule_impl.h"

static const char karras[] = "dpm2 dpm2_a dpmpp_2s_a dpmpp_2m dpmpp_sde";
static const char exponential[] = "dpmpp_2m_sde dpmpp_2m_sde_heun dpmpp_3m_sde";

static const char *stands_for(const struct sched_info *sampler)
{
    if (word_in(karras, ' ', sampler->name))
        return "karras";
    return word_in(exponential, ' ', sampler->name) ? "exponential" : "normal";
}

const struct schedule_info schedule_automatic = {
    .name = "automatic",
    .title = "Automatic",
    .stands_for = stands_for,
};
