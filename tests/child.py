"""Functions run in a fork of this process, which has its own peak of memory and may be ended."""

import os
import pickle
import resource
import signal
import traceback

import torch


def in_child(function, *given, seconds=120):
    """What a function gives, and the most memory it took, in MB, with what this process has.

    `AssertionError` has its traceback where it raised, or says how it was ended.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        # A fork has no other threads, which OpenMP would wait for.
        torch.set_num_threads(1)
        try:
            said = (function(*given), None)
        except BaseException:
            said = (None, traceback.format_exc())
        with open(write, "wb") as to:
            to.write(pickle.dumps(said))
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        said = answer.read()
    _, status, used = os.wait4(child, 0)
    assert not status, f"ended by {signal.Signals(status & 127).name}"
    found, failed = pickle.loads(said)
    assert failed is None, failed
    return found, used.ru_maxrss // 1024


def end_after(seconds):
    """End this process by SIGALRM in so many seconds, also where it hangs in a library; 0 for not.

    In a child only.
    """
    signal.alarm(seconds)


def only_so_much_more(megabytes):
    """Memory that this process may still take; beyond there is `MemoryError`."""
    with open("/proc/self/statm") as pages:
        has = int(pages.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + megabytes * 2**20, hard))
