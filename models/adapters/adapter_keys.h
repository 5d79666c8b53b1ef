/* adapter_keys.h - what a tensor of an adapter's file is, by its name.
 *
 * A name is a prefix that says which network, the name of a module, and an ending that says which
 * tensor. Trainers write the module with dots or with underscores, by diffusers' or by the single
 * files' (sgm) names, so modules are compared with underscores for all dots, in a table of the
 * network's own modules under both names.
 */
#ifndef DR_MODELS_ADAPTERS_ADAPTER_KEYS_H
#define DR_MODELS_ADAPTERS_ADAPTER_KEYS_H

#include "models/adapters/weight_delta.h"
#include "models/arch.h"
#include "models/component.h"
#include "models/params.h"

enum adapter_note {
    NOTE_NONE, /* a tensor of a change */
    NOTE_ALPHA,
    NOTE_ON_INPUT,
    NOTE_MAGNITUDE,      /* as LyCORIS has it: by rows [n, 1] or by channels [1, n] */
    NOTE_MAGNITUDE_ROWS, /* as peft has it: by rows, whatever the shape */
    NOTE_REFUSED         /* known, and nothing here can apply it */
};

/* An ending of a tensor's name. */
struct adapter_ending {
    const char *text;
    enum adapter_note note;
    const struct delta_kind *kind; /* of a change; else NULL */
    int tensor;
    bool bias; /* of the module's bias */
};

/* The longest ending of the name; *ret_module is how long the rest is. NULL: none. */
const struct adapter_ending *adapter_ending(const char *name, size_t *ret_module);
/* How the tensor is called that a change lacks. */
const char *adapter_ending_of(const struct delta_kind *kind, int tensor);

/* The modules of a model that adapters can change. */
struct adapter_network {
    enum component component;
    void *network; /* NULL: the model has none */
    visit_fn visit;
};

struct adapter_module {
    const char *key;  /* with underscores */
    const char *name; /* as the network's visit function has it */
    enum component component;
    bool weight, bias;
};

struct adapter_modules {
    struct adapter_module *list; /* sorted by component and key */
    size_t n, cap;
    struct arena *texts;
};

/* All modules of the networks; of the UNet also by their names in single files. The names are made
 * in `texts`, which must outlive the table. DR_ENOMEM. */
int adapter_modules_init(struct adapter_modules *m, const struct adapter_network *networks, int n,
                         const struct unet_arch *unet, struct arena *texts, struct dr_error *err);
void adapter_modules_release(struct adapter_modules *m);

/* The module that the first `n` bytes of a tensor's name call; NULL: the model has none such. */
const struct adapter_module *adapter_module_find(const struct adapter_modules *m, const char *name,
                                                 size_t n);

#endif
