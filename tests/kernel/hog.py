"""A program that uses memory of a cgroup: ``hog.py GROUP SCORE``, with this OOM score, and commands on its input.

::

    fill N     use N more MiB, each page with content of its own
    check      read every page; the answer is the number of those whose content is wrong

Each is answered by a line.  Standard library only, and little of it, so that it uses little memory of its own.
"""

from __future__ import annotations

import mmap
import sys

PAGE = mmap.PAGESIZE
MIB = 1 << 20


def _content(number: int) -> bytes:
    return b"%16d" % number * (PAGE // 16)


def main() -> None:
    """Serve until the end of the input."""
    for path, text in ((f"{sys.argv[1]}/cgroup.procs", "0"), ("/proc/self/oom_score_adj", sys.argv[2])):
        with open(path, "w") as file:
            file.write(text)
    held: list[mmap.mmap] = []
    pages = 0
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "fill":
            memory = mmap.mmap(-1, int(rest[0]) * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            held.append(memory)
            for offset in range(0, len(memory), PAGE):
                memory[offset : offset + PAGE] = _content(pages)
                pages += 1
            print(pages, flush=True)
        else:
            wrong, number = 0, 0
            for memory in held:
                for offset in range(0, len(memory), PAGE):
                    wrong += memory[offset : offset + PAGE] != _content(number)
                    number += 1
            print(wrong, flush=True)


if __name__ == "__main__":
    main()
