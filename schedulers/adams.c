/* adams.c - see adams.h. */
#include "schedulers/adams.h"

void adams_step(struct sched *s, const struct sched_answer *answer, int most,
                void (*fill)(const float *sigmas, int e, int order, double weights[ADAMS_MOST]))
{
    int e = s->state->evaluation, past = e - s->state->first + 1;
    int order = e == s->levels - 1 ? 1 : past < most ? past : most;
    struct sched_pair slope = sched_slope(s, s->sigmas[e]);
    double weights[ADAMS_MOST] = { (double)s->sigmas[e + 1] - s->sigmas[e] };
    float *x = sched_latents(s);
    struct sched_term now[] = { { slope.x, x }, { slope.pred, answer->pred } };
    sched_mix(sched_vector(s, e % ADAMS_MOST), s->n, now, 2);
    if (order > 1)
        fill(s->sigmas, e, order, weights);
    struct sched_term terms[ADAMS_MOST + 1] = { { 1, x } };
    for (int k = 0; k < order; k++)
        terms[k + 1] = (struct sched_term){ weights[k], sched_vector(s, (e - k) % ADAMS_MOST) };
    sched_mix(x, s->n, terms, order + 1);
}

/* Half of the nodes of Gauss' rule on -1 to 1, and their weights. */
static const double gauss[8][2] = {
    { 0.0950125098376374402, 0.1894506104550684963 },
    { 0.2816035507792589132, 0.1826034150449235889 },
    { 0.4580167776572273863, 0.1691565193950025382 },
    { 0.6178762444026437484, 0.1495959888165767321 },
    { 0.7554044083550030339, 0.1246289712555338720 },
    { 0.8656312023878317439, 0.0951585116824927848 },
    { 0.9445750230732325761, 0.0622535239386478929 },
    { 0.9894009349916499326, 0.0271524594117540949 },
};

static double value(const struct adams_integral *g, double x)
{
    double at = g->at(x, g->context), product = g->factor(x, g->context);
    for (int j = 0; j < g->n; j++)
        if (j != g->k)
            product *= (at - g->nodes[j]) / (g->nodes[g->k] - g->nodes[j]);
    return product;
}

double adams_integrate(const struct adams_integral *g)
{
    double half = (g->b - g->a) / 2, middle = (g->b + g->a) / 2, sum = 0;
    for (int i = 0; i < 8; i++)
        sum += gauss[i][1] *
               (value(g, middle - half * gauss[i][0]) + value(g, middle + half * gauss[i][0]));
    return half * sum;
}
