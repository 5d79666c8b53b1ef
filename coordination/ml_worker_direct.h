/* ml_worker_direct.h - the worker's main loop: lines from stdin into the engine, events to stdout.
 */
#ifndef DR_COORDINATION_ML_WORKER_DIRECT_H
#define DR_COORDINATION_ML_WORKER_DIRECT_H

/* Runs until the end of input, a shutdown message, SIGTERM, SIGINT or SIGHUP; every request that
 * was read is answered. Returns the process's exit status: 0, or 1 when the engine could not be
 * opened (the reason is the only line on stdout and the last on stderr), the input broke or the
 * answers could not be written. `options` as darkroom_open's; `grace`: seconds that the running job
 * has after SIGTERM. */
int ml_worker_direct(const char *options, double grace);

#endif
