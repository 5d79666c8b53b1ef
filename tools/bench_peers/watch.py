"""Timing for the peers' processes, and what other processes took meanwhile."""
import os
import time


def busy():
    """Processor seconds of the whole machine since it started, waiting and guests' waiting left out."""
    with open("/proc/stat", encoding="ascii") as file:
        numbers = [int(n) for n in file.readline().split()[1:]]
    return (numbers[0] + numbers[1] + numbers[2] + numbers[5] + numbers[6]) / os.sysconf("SC_CLK_TCK")


def timed(run, runs):
    """(seconds of a first call, the fastest of `runs` later calls as a dict, its result)

    cores: processors at work for this process on the mean; others: for all other processes.
    """
    best, first = None, None
    for _ in range(runs + 1):
        machine, own, start = busy(), time.process_time(), time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        own = time.process_time() - own
        if first is None:
            first = seconds
            continue
        if best is None or seconds < best["seconds"]:
            best = {"seconds": seconds, "cores": own / seconds, "others": max(0.0, busy() - machine - own) / seconds}
    return first, best, result
