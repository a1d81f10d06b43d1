"""Mutations of files, and processes that read them and may crash, hang or eat memory meanwhile.

``outcomes(world, count)`` gives what became of each mutation of a world of files. A world is a
folder with good files, which of them are spoilt, and a function that looks at them and says
``same``, ``refused`` (one clear error) or ``told`` (``verify`` tells it); anything else is a bug:
``wrong``, a traceback, a crash, a hang. Worlds stand in fuzzing_worlds.py. By hand:
``python tests/fuzzing.py WORLD FIRST LAST`` in tests/, a line for each mutation.
"""

import collections
import contextlib
import json
import os
import queue
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

HERE = Path(__file__).parent
ROOM = 1 << 30
"""Memory a mutation may ask for beyond what is in use before."""

PATIENCE_S = 60
"""A mutation that takes longer hangs: each takes some milliseconds."""

ODD_WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 64) - 1)


def flip_bits(data, chance):
    """Some bits flipped."""
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def other_bytes(data, chance):
    """A run of other bytes."""
    start, length = chance.randrange(len(data)), chance.choice([1, 2, 4, 16, 300])
    data[start : start + length] = chance.randbytes(len(data[start : start + length]))


def zero_block(data, chance):
    """A block of zeros, as of a disk that lost it."""
    start, length = chance.randrange(len(data)), chance.choice([8, 64, 512, 4096])
    data[start : start + length] = bytes(len(data[start : start + length]))


def swap_blocks(data, chance):
    """Two blocks in each other's place."""
    size = min(chance.choice([8, 64, 512]), len(data) // 2)
    a, b = (chance.randrange(len(data) - size + 1) for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def truncate(data, chance):
    """The end cut off."""
    del data[
        chance.choice([chance.randrange(len(data)), max(0, len(data) - chance.randrange(64))]) :
    ]


def lengthen(data, chance):
    """Bytes more, within or at the end."""
    at = chance.choice([chance.randrange(len(data)), len(data)])
    data[at:at] = chance.randbytes(chance.choice([1, 8, 512]))


def odd_word(data, chance):
    """A number of 1 to 8 bytes that is odd: nothing, the largest, the sign's bit."""
    size = chance.choice([1, 2, 4, 8])
    at = chance.randrange(max(1, len(data) - size)) // size * size
    word = chance.choice(ODD_WORDS) & ((1 << 8 * size) - 1)
    data[at : at + size] = word.to_bytes(size, "little")


def odd_metadata(data, chance):
    """Something odd within the first bytes or near one of HDF5's marks."""
    marks = [at for mark in MARKS for at in places(data, mark)] or [0]
    at = chance.choice(marks) + chance.randrange(256)
    for _ in range(chance.choice([1, 3])):
        if at < len(data):
            data[at] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])


def odd_start(data, chance):
    """Something odd among the first bytes, where formats say what follows."""
    for _ in range(chance.choice([1, 2, 3])):
        at = chance.randrange(min(len(data), 800))
        data[at] = chance.choice([0, 1, 2, 3, 5, 14, 15, 0x7F, 0xFF, chance.randrange(256)])


def resigned_header(data, chance):
    """An object's header with other bytes and a checksum that fits them."""
    headers = [span for at in places(data, b"OHDR") if (span := header_span(data, at))]
    if not headers:
        return flip_bits(data, chance)
    start, end = chance.choice(headers)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(start + 6, end - 4)
        data[at] = chance.choice([0, 1, 0x7F, 0xFF, data[at] ^ 1 << chance.randrange(8)])
    data[end - 4 : end] = lookup3(bytes(data[start : end - 4])).to_bytes(4, "little")
    return None


MARKS = (b"OHDR", b"OCHK", b"TREE", b"FRHP", b"BTHD", b"BTLF", b"FSHD", b"GCOL", b"\x89HDF")
BYTEWISE = (flip_bits, other_bytes, zero_block, swap_blocks, truncate, lengthen, odd_word)
HEADED = (*BYTEWISE, *[odd_start] * 4)
HDF5 = (*BYTEWISE, odd_metadata, odd_metadata, resigned_header)


def words_shuffled(data, chance):
    """Words of a text dropped, doubled, swapped or made odd."""
    words = data.decode("utf8", "replace").split(" ")
    for _ in range(chance.choice([1, 1, 3])):
        a, b = (chance.randrange(len(words)) for _ in range(2))
        match chance.randrange(4):
            case 0:
                words[a], words[b] = words[b], words[a]
            case 1:
                words[a] = words[b]
            case 2:
                words[a] = chance.choice(ODD_TEXTS)
            case 3:
                words[a] = ""
    data[:] = " ".join(words).encode()


ODD_TEXTS = (
    "!!python/object/apply:os.system", "&a", "*a", "1e999", "-1e999", ".nan", "NaN", "null", "~",
    "-1", "0", "1e308", "9" * 400, "[[[[[[", "{a: {a: {a: ", "[" * 3000, "'", '"', "\x00", "\u202e",
    "../../etc/passwd", "/etc/passwd", "{kind: file, path: /etc/passwd}", "true", "0x10", "\t", ":",
    "{uniform: [1, 0]}", "{uniform: [.nan, 1]}", "{normal: [0, -1]}", "99999999999999999999",
)  # fmt: skip
TEXT = (flip_bits, other_bytes, truncate, swap_blocks, words_shuffled, words_shuffled)


def places(data, mark):
    """Where a mark stands."""
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


def header_span(data, start):
    """First byte of an object header, version 2, and the byte after its checksum; or None."""
    if start + 32 > len(data) or data[start + 4] != 2:
        return None
    flags = data[start + 5]
    size_at = start + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    end = size_at + width + int.from_bytes(data[size_at : size_at + width], "little") + 4
    return (start, end) if end <= len(data) else None


def lookup3(data):
    """Jenkins' checksum of bytes as HDF5 has it: ``hashlittle`` from 0 (public domain, 2006)."""
    mask = 0xFFFFFFFF

    def rotated(x, k):
        return (x << k | x >> 32 - k) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    at, left = 0, len(data)
    while left > 12:
        x, y, z = struct.unpack_from("<III", data, at)
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        for shift in (4, 6, 8, 16, 19, 4):
            a = (a - c & mask) ^ rotated(c, shift)
            c = c + b & mask
            a, b, c = b, c, a
        at, left = at + 12, left - 12
    if not left:
        return c
    x, y, z = struct.unpack("<III", data[at:].ljust(12, b"\0"))
    a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - rotated(b, shift)) & mask
        a, b, c = b, c, a
    return (a, b, c)[1]


def spoil(world, folder, number):
    """Spoil one file of a world; in words, what was done. The same for the same number."""
    chance = random.Random(f"{world.name} {number}")
    name, kinds = chance.choice(world.spoilt)
    path, kind = folder / name, chance.choice(kinds)
    if getattr(kind, "structured", False):
        kind(path, chance)
    else:
        data = bytearray(path.read_bytes())
        kind(data, chance)
        path.write_bytes(data)
    return f"{kind.__name__} of {name}"


def limit_memory(room):
    """Let this process have so many bytes more than now, where the system can say so."""
    if sys.platform != "linux":
        return
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + room, now + room))


def run_child(name, good, first, last):
    """Spoil and look, a line of JSON for each number, before it begins and when it is done."""
    import fuzzing_worlds

    world = fuzzing_worlds.WORLDS[name]
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "spoilt"
        for _ in range(2):
            anew(folder, good)
            assert world.look(folder) == "same"  # imports and compiles
        limit_memory(ROOM)
        for number in range(first, last):
            anew(folder, good)
            tell({"began": number})
            done = spoil(world, folder, number)
            tell({"number": number, "done": done} | looked(world, folder))


def anew(folder, good):
    """Put the good files in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)


def looked(world, folder):
    """What looking at a world gives, an unexpected error as its traceback."""
    try:
        return {"outcome": world.look(folder)}
    except BaseException:  # a bug of any kind is what is looked for
        return {"outcome": "traceback", "trace": traceback.format_exc()[-3000:]}


def tell(values):
    """A line of JSON for the parent."""
    print(json.dumps(values), flush=True)


class Child:
    """A process that looks at mutations of a world, and what it told."""

    def __init__(self, name, good, first, last):
        arguments = [name, str(good), str(first), str(last)]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "fuzzing.py"), *arguments],
            cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        self.lines = queue.Queue()
        self.errors = collections.deque(maxlen=40)
        for stream, put in (
            (self.process.stdout, self.lines.put),
            (self.process.stderr, self.errors.append),
        ):
            threading.Thread(target=self._drain, args=(stream, put), daemon=True).start()

    def _drain(self, stream, put):
        for line in stream:
            put(line)
        if stream is self.process.stdout:
            put(None)

    def next(self):
        """What it tells next; None at its end; raises queue.Empty if it hangs."""
        line = self.lines.get(timeout=PATIENCE_S)
        return None if line is None else json.loads(line)

    def end(self):
        """Its exit status, once it runs no more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        return self.process.wait(30)


def outcomes(name, good, first, last):
    """What became of mutations ``first`` to ``last`` of a world, by number, crashes included."""
    found = {}
    while first < last:
        child, at = Child(name, good, first, last), None
        ending = "crash"
        try:
            while (line := child.next()) is not None:
                at = line.get("began", at)
                if "outcome" in line:
                    found[line["number"]] = line
        except queue.Empty:
            ending = "hang"
            child.process.kill()
        status = child.end()
        if at is None:
            raise AssertionError(f"{name} does not begin: {''.join(child.errors)}")
        if at in found and status == 0:
            break
        found[at] = {
            "number": at,
            "outcome": ending,
            "trace": "".join(child.errors),
            "status": status,
        }
        first = at + 1
    return found


BUGS = ("wrong", "traceback", "crash", "hang")


def bugs(found):
    """Outcomes that are bugs, in words."""
    return [
        f"{one['number']}: {one.get('done')}: {one['outcome']} {one.get('trace', '')}"
        for one in found.values()
        if one["outcome"].split(":")[0] in BUGS
    ]


if __name__ == "__main__":
    run_child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
