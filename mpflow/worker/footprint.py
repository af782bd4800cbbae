"""How much memory a process takes up, as /proc tells it: a quick answer that is never too low, and a slow one that is right.

Owns what counts as a process's own: memory that no file on a disk stands behind, and of what it shares with others its share.
"""

from __future__ import annotations

import os
from typing import Final

SEGMENTS: Final = b"/memfd:mpflow"
"""How mappings of what passes between the processes of a pool are called."""
_MEMORY: Final = (b"[", b"/memfd:", b"/dev/shm/", b"/dev/zero", b"/SYSV", b"anon_")
"""How the names of mappings begin that no file on a disk stands behind."""
_PAGE: Final = os.sysconf("SC_PAGESIZE")
_open, _read, _close = os.open, os.read, os.close


def most_memory(pid: int) -> int:
    """Bytes of memory that a process may have for itself at most: all that is resident. Raises OSError where it has gone."""
    fd = _open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(_read(fd, 200).split()[1]) * _PAGE
    finally:
        _close(fd)


def own_memory(pid: int) -> int:
    """Bytes of memory that are a process's own: its share of what it has together with others, and no pages of files.

    Values that the pool passes between processes count as far as the process has changed them. Costs milliseconds. Raises
    OSError where the process has gone.
    """
    total = 0
    wanted = b"Pss:"
    with open(f"/proc/{pid}/smaps", "rb") as file:
        for line in file:
            head, _, rest = line.partition(b" ")
            if not head.endswith(b":"):
                # A new mapping: address, rights, offset, device, inode, name.
                name = line.split(None, 5)[5:]
                memory = not name or name[0].startswith(_MEMORY)
                wanted = b"Pss:" if memory and not (name and name[0].startswith(SEGMENTS)) else b"Anonymous:"
            elif head == wanted:
                total += int(rest.split()[0]) << 10
    return total
