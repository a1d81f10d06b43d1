"""Chunks of an array as zlib streams (RFC 1950, 1951), the same bytes on every machine.

Camera counts split into their bytes (HDF5's shuffle filter): high bytes that stand in runs, low
bytes that are noise and hold nothing to find but their unequal frequencies. So every plane of bytes
is a block with a Huffman code of its own, runs are copies from one byte before, where that takes
fewer bits than the bytes themselves, and nothing else is searched for. What no code makes smaller
is stored as it is.

All arithmetic is in whole numbers. Codes are Huffman's by the two queues of van Leeuwen (1976),
their lengths limited as in zlib: leaves too deep are moved up, and others down to make room.
"""

import numpy as np

from simscope.kernels.compiled import compiled, inlined, pasted

U = np.uint64

MOST = 65535
"""Bytes of the largest block: what the format can store as it is."""

SYMBOLS = 286
END = 256
LONGEST_CODE = 12
"""Bits of a code; beyond 12, readers need a second look-up."""

PADDING = 8
"""Bytes behind the last plane that may be read, whatever they are."""

LONGEST_RUN = 258
SHORTEST_RUN = 4
NEVER = 1 << 40
"""Heavier than any node of a tree."""

NO_FLAGS, EIGHT_FLAGS = U(0), U(0x0101010101010101)

FEW = 8
"""Different values that are counted sooner one by one."""

GUESSED_BITS = 10
"""What a copy costs about, before there is a code."""

NO_SYMBOL = 31
"""One of the code of code lengths that never occurs, so that it takes no bits."""

ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15])
"""Order in which the lengths of the code of code lengths are written."""


def length_codes():
    """Symbol, extra bits and first length of the code of every run length from 0 to 258."""
    codes = np.zeros((LONGEST_RUN + 1, 3), np.int64)
    first = 3
    for symbol in range(257, 285):
        extra = max(0, (symbol - 261) // 4)
        codes[first : first + (1 << extra)] = symbol, extra, first
        first += 1 << extra
    codes[LONGEST_RUN] = 285, 0, LONGEST_RUN
    return codes


LENGTH_CODES = length_codes()


# ---- whole chunks --------------------------------------------------------------------------------


@compiled
def pack_chunks(chunks, width, words, starts, sizes):
    """Pack every row of ``chunks`` after shuffling its items of ``width`` bytes.

    ``chunks``: uint8 ``(n, bytes)``; ``words``: uint64, :func:`most_words` for every chunk, takes
    the streams, each from byte ``starts`` on, ``sizes`` bytes long. Returns the words used.
    """
    nbytes = chunks.shape[1]
    planes = np.zeros(nbytes + PADDING, np.uint8)
    room = rooms(min(nbytes // width, MOST))
    word = 0
    for chunk in range(chunks.shape[0]):
        shuffle(chunks[chunk], width, planes)
        starts[chunk] = 8 * word
        sizes[chunk] = pack_planes(planes, nbytes, width, words[word:], room)
        word += (sizes[chunk] + 7) // 8
    return word


def most_words(nbytes, width):
    """Words that the stream of a chunk takes at most: all blocks stored as they are."""
    blocks = width * -(-nbytes // width // MOST) + 1
    return (nbytes + 5 * blocks + 6) // 8 + 2


@compiled
def shuffle(chunk, width, planes):
    """Bytes of the items, all first bytes first, in ``planes``."""
    if width == 2:
        shuffle_pairs(chunk.view(np.uint16), planes)
    elif width == 4:
        shuffle_items(chunk, 4, planes)
    elif width == 8:
        shuffle_items(chunk, 8, planes)
    else:
        shuffle_items(chunk, width, planes)


@inlined
def shuffle_pairs(pairs, planes):
    """The same of items of two bytes, which vector registers take apart at once."""
    low, high = planes[: pairs.size], planes[pairs.size : 2 * pairs.size]
    for item in range(pairs.size):
        low[item] = pairs[item] & 255
        high[item] = pairs[item] >> 8


@inlined
def shuffle_items(chunk, width, planes):
    """The same; runs in vector registers where the compiler knows the width."""
    items = chunk.size // width
    for byte in range(width):
        plane = planes[byte * items : (byte + 1) * items]
        for item in range(items):
            plane[item] = chunk[item * width + byte]


@compiled
def unshuffle(planes, width, items):
    """Undo :func:`shuffle`: bytes of the items, one item after the other, in ``items``."""
    if width == 2:
        unshuffle_items(planes, 2, items)
    elif width == 4:
        unshuffle_items(planes, 4, items)
    elif width == 8:
        unshuffle_items(planes, 8, items)
    else:
        unshuffle_items(planes, width, items)


@inlined
def unshuffle_items(planes, width, items):
    """The same; runs in vector registers where the compiler knows the width."""
    count = planes.size // width
    for item in range(count):
        for byte in range(width):
            items[item * width + byte] = planes[byte * count + item]


@pasted
def pack_planes(planes, nbytes, width, words, room):
    """Bytes of the zlib stream of ``nbytes`` shuffled bytes, written to ``words``."""
    items = nbytes // width
    to = put(words, U(0), U(0), U(0), U(0x0178), U(16))
    blocks = max(1, -(-items // MOST))
    step = max(1, -(-items // blocks))
    for byte in range(width):
        for first in range(byte * items, (byte + 1) * items, step):
            stop = min(first + step, (byte + 1) * items)
            to = pack_block(planes, first, stop, stop == nbytes, words, to, room)
    to = align(words, to)
    check = adler32(planes[:nbytes])
    for byte in range(4):
        digit = U((check >> (24 - 8 * byte)) & 255)
        to = put(words, to[0], to[1], to[2], digit, U(8))
    words[to[0]] = to[1]
    return np.int64(8 * to[0] + to[2] // U(8))


@compiled
def adler32(data):
    """Checksum of RFC 1950."""
    low, high = 1, 0
    for start in range(0, data.size, 4096):
        part = data[start : start + 4096]
        total, weighted = np.uint32(0), np.uint32(0)
        for i in range(part.size):  # in 32 bits, which vector registers multiply fast
            byte = np.uint32(part[i])
            total = np.uint32(total + byte)
            weighted = np.uint32(weighted + np.uint32(byte * np.uint32(i)))
        high = (high + part.size * (low + np.int64(total)) - np.int64(weighted)) % 65521
        low = (low + np.int64(total)) % 65521
    return high << 16 | low


# ---- bits ----------------------------------------------------------------------------------------


@inlined
def put(words, word, held, bits, code, length):
    """Append ``length`` bits to those held; word, held bits and their number afterwards.

    Without a branch: which code fills a word cannot be foreseen.
    """
    joined = held | code << bits
    words[word] = joined
    total = bits + length
    full = total >> U(6)
    rest = (code >> U(1)) >> (U(63) - bits)
    return word + full, rest if full else joined, total & U(63)


@inlined
def align(words, to):
    """Fill the byte begun with zeros."""
    return put(words, to[0], to[1], to[2], U(0), (U(64) - to[2]) & U(7))


# ---- one block -----------------------------------------------------------------------------------


@compiled
def rooms(most):
    """Memory for the work on a block of at most so many bytes."""
    return (
        np.zeros((8, 256), np.int32),  # counts, eight by turns
        np.zeros((2, 320), np.int64),  # how often symbols occur: bytes alone, bytes and runs
        np.zeros((2, 320), np.int64),  # lengths of their codes
        np.zeros(320, np.uint64),  # codes
        np.zeros((4, 640), np.int64),  # the tree
        np.zeros(most + 8 & ~7, np.uint8),  # which bytes repeat the ones before them
        np.zeros((3, most + 2), np.int32),  # where bytes change; where runs begin, their lengths
        np.zeros((3, 320), np.int64),  # code lengths as they are written
        np.zeros(32, np.uint64),  # and their codes
    )


@pasted
def pack_block(planes, first, stop, last, words, to, room):
    """Write bytes ``first`` to ``stop`` the shortest way: bytes, bytes and runs, or as they are."""
    counts, often, lengths, codes, tree, flags, runs, header, header_codes = room
    block = planes[first:stop]
    count_bytes(block, counts, often[0])
    bits = code_lengths(often[0], 257, LONGEST_CODE, lengths[0], tree)
    found, way = 0, 0
    if long_repeats(block, flags) * 32 > block.size:
        found = find_runs(block, flags, lengths[0], runs)
    if found:
        extra = count_runs(block, runs, found, often)
        with_runs = extra + code_lengths(often[1], SYMBOLS, LONGEST_CODE, lengths[1], tree)
        if with_runs < bits:
            way, bits = 1, with_runs
    if way == 0:
        found = 0
    entries, header_bits = plan_header(lengths[way], header, tree)
    if bits + header_bits >= 8 * block.size + 32:
        return store(planes, first, stop, last, words, to, codes)
    to = write_header(last, lengths[way], header, header_codes, entries, words, to)
    canonical(lengths[way], SYMBOLS, codes, tree[0])
    return write_symbols(planes, first, stop, runs, found, codes, words, to)


@compiled
def count_bytes(block, counts, often):
    """How often each byte occurs, and once the end."""
    often[:] = 0
    often[END] = 1
    largest = np.uint8(0)
    for i in range(block.size):
        largest = max(largest, block[i])
    if largest < FEW:
        count_few(block, largest, often)
    else:
        count_many(block, counts, often)


@compiled
def count_few(block, largest, often):
    """The same of few values, looked for one by one in vector registers."""
    for value in range(np.int64(largest) + 1):
        byte, found = np.uint8(value), np.uint16(0)
        for i in range(block.size):
            found = np.uint16(found + np.uint16(block[i] == byte))
        often[value] = found


@compiled
def count_many(block, counts, often):
    """The same of any values."""
    counts[:] = 0
    eights = block.size // 8 * 8
    for i in range(0, eights, 8):  # a count just written is slow to read again
        counts[0, block[i]] += 1
        counts[1, block[i + 1]] += 1
        counts[2, block[i + 2]] += 1
        counts[3, block[i + 3]] += 1
        counts[4, block[i + 4]] += 1
        counts[5, block[i + 5]] += 1
        counts[6, block[i + 6]] += 1
        counts[7, block[i + 7]] += 1
    for i in range(eights, block.size):
        counts[0, block[i]] += 1
    for turn in range(8):
        for symbol in range(256):
            often[symbol] += counts[turn, symbol]


@compiled
def long_repeats(block, flags):
    """Flag where ``SHORTEST_RUN`` bytes equal the one before them; returns how many there are."""
    most = block.size - SHORTEST_RUN
    for i in range(most):
        byte = block[i]
        flags[i] = (
            (block[i + 1] == byte)
            & (block[i + 2] == byte)
            & (block[i + 3] == byte)
            & (block[i + 4] == byte)
        )
    total = np.uint32(0)
    for i in range(most):
        total += np.uint32(flags[i])
    return np.int64(total)


@compiled
def find_runs(block, flags, lengths, runs):
    """List what repeats the byte before it and is shorter as a copy; returns how many there are.

    Rows of ``runs``: where flags change; where runs begin; their lengths.
    """
    changes, starts, sizes = runs[0], runs[1], runs[2]
    most = block.size - SHORTEST_RUN
    found, before, eights = 0, np.uint8(0), flags.view(np.uint64)
    for eight in range((most + 7) // 8):
        if eights[eight] == (EIGHT_FLAGS if before else NO_FLAGS):
            continue
        for i in range(8 * eight, min(8 * eight + 8, most)):
            changes[found] = i
            found += flags[i] != before
            before = flags[i]
    changes[found] = most
    kept = 0
    for run in range(0, found, 2):
        start, stop = changes[run], changes[run + 1] + SHORTEST_RUN
        starts[kept], sizes[kept] = start + 1, stop - start - 1
        kept += (stop - start - 1) * lengths[block[start]] >= GUESSED_BITS
    return kept


@compiled
def count_runs(block, runs, found, often):
    """How often symbols occur if runs are copies; returns the bits besides their codes."""
    often[1, :] = often[0]
    extra = 0
    for run in range(found):
        length, byte = np.int64(runs[2, run]), block[runs[1, run]]
        whole = length // LONGEST_RUN
        rest = length - whole * LONGEST_RUN
        often[1, 285] += whole
        extra += whole
        if rest >= 3:
            often[1, LENGTH_CODES[rest, 0]] += 1
            extra += 1 + LENGTH_CODES[rest, 1]
            rest = 0
        often[1, byte] -= length - rest
    return extra


@compiled
def store(planes, first, stop, last, words, to, codes):
    """Write bytes as they are."""
    to = put(words, to[0], to[1], to[2], U(last), U(3))
    to = align(words, to)
    size = stop - first
    to = put(words, to[0], to[1], to[2], U(size | (size ^ 0xFFFF) << 16), U(32))
    for byte in range(256):
        codes[byte] = U(byte << 8 | 8)
    return write_bytes(planes, first, stop, codes, words, to)


# ---- codes ---------------------------------------------------------------------------------------


@compiled
def code_lengths(often, symbols, most, lengths, tree):
    """Find the bits of the code of every symbol, at most ``most``; 0 for those that do not occur.

    At least two symbols must occur. Returns the bits of all of them together.
    """
    leaves = sorted_leaves(often, symbols, tree)
    depths = tree[3]
    huffman_depths(tree[0], leaves, depths, tree[2])
    limit_depths(depths, leaves, most)
    lengths[:] = 0
    bits = 0
    for leaf in range(leaves):
        lengths[tree[1, leaf]] = depths[leaf]
        bits += depths[leaf] * tree[0, leaf]
    return bits


@pasted
def sorted_leaves(often, symbols, tree):
    """Put what occurs in ``tree``: how often, rising, and which symbol; returns how many do."""
    leaves, largest = 0, 0
    keys, symbol_of = tree[0], tree[1]
    for symbol in range(symbols):
        keys[leaves] = often[symbol] << 9 | symbol
        leaves += often[symbol] > 0
        largest = max(largest, often[symbol])
    if leaves <= 32:
        sort_few(keys, leaves)
    else:
        sort_by_digit(keys, leaves, 9, symbol_of, tree[2])
        if largest > 255:
            sort_by_digit(symbol_of, leaves, 17, keys, tree[2])
        else:
            keys[:leaves] = symbol_of[:leaves]
    for leaf in range(leaves):
        symbol_of[leaf] = keys[leaf] & 511
        keys[leaf] >>= 9
    return leaves


@compiled
def sort_few(keys, leaves):
    """Sort keys in place."""
    for leaf in range(1, leaves):
        key, place = keys[leaf], leaf
        while place > 0 and keys[place - 1] > key:
            keys[place] = keys[place - 1]
            place -= 1
        keys[place] = key


@compiled
def sort_by_digit(keys, leaves, shift, out, places):
    """Keys by eight of their bits, else in the order they are in."""
    places[:257] = 0
    for leaf in range(leaves):
        places[((keys[leaf] >> shift) & 255) + 1] += 1
    for digit in range(255):
        places[digit + 1] += places[digit]
    for leaf in range(leaves):
        digit = (keys[leaf] >> shift) & 255
        out[places[digit]] = keys[leaf]
        places[digit] += 1


@compiled
def huffman_depths(weights, leaves, depths, parents):
    """Depths of leaves by rising weight in Huffman's tree; ``depths`` fall.

    Nodes are numbered as they are made, from ``leaves + 1`` on; their weights rise as well, so the
    two lightest stand first among the leaves or among the nodes. ``NEVER`` stands behind both.
    """
    one, leaf, node = U(1), U(0), U(leaves + 1)
    weights[leaves] = weights[leaves + 1] = NEVER
    for made in range(leaves + 1, 2 * leaves):
        total = 0
        for _ in range(2):
            from_leaves = weights[leaf] <= weights[node]
            total += min(weights[leaf], weights[node])
            parents[leaf if from_leaves else node] = made
            leaf, node = leaf + U(from_leaves), node + (one - U(from_leaves))
        weights[made] = total
        weights[made + 1] = NEVER
    root = 2 * leaves - 1
    depths[root] = 0
    for child in range(root - 1, leaves, -1):
        depths[child] = depths[parents[child]] + 1
    for child in range(leaves):
        depths[child] = depths[parents[child]] + 1


@compiled
def limit_depths(depths, leaves, most):
    """Raise leaves that lie too deep, then lower others until all fit; depths still fall."""
    if depths[0] <= most:
        return
    taken, whole = 0, 1 << most
    for leaf in range(leaves):
        depths[leaf] = min(depths[leaf], most)
        taken += whole >> depths[leaf]
    leaf = 0
    while taken > whole:  # lower the lightest that can be
        while depths[leaf] == most:
            leaf += 1
        depths[leaf] += 1
        taken -= whole >> depths[leaf]
    for leaf in range(leaves - 1, -1, -1):  # what is left over raises the heaviest that it can
        while depths[leaf] > 1 and taken + (whole >> depths[leaf]) <= whole:
            taken += whole >> depths[leaf]
            depths[leaf] -= 1


@compiled
def canonical(lengths, symbols, codes, following):
    """Codes in order of length, then of symbol, first bit lowest; ``code << 8 | length``."""
    quarter = (symbols + 3) // 4  # four at once: each has counts of its own
    following[:64] = 0
    for i in range(quarter):
        following[lengths[i]] += 1
        following[16 + lengths[quarter + i]] += 1
        following[32 + lengths[2 * quarter + i]] += 1
        following[48 + lengths[3 * quarter + i]] += 1
    code = 0
    for length in range(1, 16):
        code <<= 1
        for at in range(length, 64, 16):
            following[at], code = code, code + following[at]
    for i in range(quarter):
        codes[i] = next_code(lengths[i], following, 0)
        codes[quarter + i] = next_code(lengths[quarter + i], following, 16)
        codes[2 * quarter + i] = next_code(lengths[2 * quarter + i], following, 32)
        codes[3 * quarter + i] = next_code(lengths[3 * quarter + i], following, 48)


@inlined
def next_code(length, following, at):
    """The next code of a length, 0 if that is 0; without a branch."""
    code = following[at + length]
    following[at + length] = code + 1
    return U(reversed_bits(code, length) << 8 | length)


@inlined
def reversed_bits(code, length):
    """The lowest ``length`` bits of a code of at most 16, the other way round."""
    code = (code & 0x5555) << 1 | (code >> 1) & 0x5555
    code = (code & 0x3333) << 2 | (code >> 2) & 0x3333
    code = (code & 0x0F0F) << 4 | (code >> 4) & 0x0F0F
    code = (code & 0x00FF) << 8 | (code >> 8) & 0x00FF
    return code >> (16 - length)


# ---- writing -------------------------------------------------------------------------------------


@pasted
def plan_header(lengths, header, tree):
    """List how the code lengths are written; returns the entries and the bits they take.

    Rows of ``header``: entries, ``symbol | value << 5 | bits << 13`` with a value of so many bits
    behind the symbol; how often symbols occur; lengths of their codes; the codes.
    """
    often, sizes = header[1], header[2]
    often[:19] = 0
    used = used_symbols(lengths)
    lengths[used] = 1  # one distance, 1, in one bit
    entries, symbol, bits = 0, 0, 17 + 3 * 19
    while symbol <= used:
        length, run = lengths[symbol], 1
        if length == lengths[symbol + 1] and length == lengths[symbol + 2]:
            while symbol + run <= used and lengths[symbol + run] == length:
                run += 1
            entries = repeat_length(length, run, header[0], entries)
        else:  # no repeats, most of the time
            header[0, entries] = length
            entries += 1
        symbol += run
    lengths[used] = 0
    for entry in range(entries):
        often[header[0, entry] & 31] += 1
        bits += header[0, entry] >> 13
    return entries, bits + code_lengths(often, 19, 7, sizes, tree)


@inlined
def used_symbols(lengths):
    """Symbols up to the last that occurs; the end always does."""
    used = SYMBOLS
    while lengths[used - 1] == 0:
        used -= 1
    return used


@inlined
def repeat_length(length, run, entry, entries):
    """List ``run`` equal code lengths."""
    if length:
        entry[entries] = length
        entries, run = entries + 1, run - 1
    while run >= 3:
        if length:
            some = min(run, 6)
            entry[entries] = 16 | (some - 3) << 5 | 2 << 13
        elif run <= 10:
            some = run
            entry[entries] = 17 | (some - 3) << 5 | 3 << 13
        else:
            some = min(run, 138)
            entry[entries] = 18 | (some - 11) << 5 | 7 << 13
        entries, run = entries + 1, run - some
    for _ in range(run):
        entry[entries] = length
        entries += 1
    return entries


@compiled
def write_header(last, lengths, header, codes, entries, words, to):
    """Write what a block begins with: its kind and its code."""
    sizes = header[2]
    used, written = used_symbols(lengths), 19
    while sizes[ORDER[written - 1]] == 0:
        written -= 1
    start = np.int64(last) | 2 << 1 | (used - 257) << 3 | (written - 4) << 13
    to = put(words, to[0], to[1], to[2], U(start), U(17))
    for place in range(written):
        to = put(words, to[0], to[1], to[2], U(sizes[ORDER[place]]), U(3))
    canonical(sizes, 19, codes, header[1])
    header[0, entries : entries + 4] = NO_SYMBOL
    for first in range(0, entries, 4):
        a, b = coded(header[0, first], codes), coded(header[0, first + 1], codes)
        c, d = coded(header[0, first + 2], codes), coded(header[0, first + 3], codes)
        code, length = joined(a, b, c, d)
        to = put(words, to[0], to[1], to[2], code, length)
    return to


@inlined
def coded(entry, codes):
    """Code of an entry and the value behind it, as codes are kept."""
    code, entry = codes[entry & 31], U(entry)
    length = code & U(63)
    both = code >> U(8) | (entry >> U(5) & U(255)) << length
    return both << U(8) | length + (entry >> U(13))


@compiled
def write_symbols(planes, first, stop, runs, found, codes, words, to):
    """Write bytes and runs, and the end."""
    position = first
    for run in range(found):
        start, length = first + runs[1, run], np.int64(runs[2, run])
        to = write_bytes(planes, position, start, codes, words, to)
        position = start
        while length >= 3:
            some = min(length, LONGEST_RUN)
            to = write_run(some, codes, words, to)
            position, length = position + some, length - some
    to = write_bytes(planes, position, stop, codes, words, to)
    return put(words, to[0], to[1], to[2], codes[END] >> U(8), codes[END] & U(63))


@inlined
def write_run(length, codes, words, to):
    """Write a copy of ``length`` bytes from one byte before, whose code is one bit 0."""
    symbol, extra, shortest = LENGTH_CODES[length]
    code = codes[symbol]
    both = code >> U(8) | U(length - shortest) << (code & U(63))
    return put(words, to[0], to[1], to[2], both, (code & U(63)) + U(extra + 1))


@inlined
def write_bytes(planes, first, stop, codes, words, to):
    """Write bytes by their codes, four at a time."""
    word, held, bits = to
    none, one, two, three = U(0), U(1), U(2), U(3)
    last, end = U(first + (stop - first) // 4 * 4), U(stop)
    for i in range(U(first), last, U(4)):
        a, b = codes[planes[i]], codes[planes[i + one]]
        c, d = codes[planes[i + two]], codes[planes[i + three]]
        code, length = joined(a, b, c, d)
        word, held, bits = put(words, word, held, bits, code, length)
    a = codes[planes[last]] if last < end else none
    b = codes[planes[last + one]] if last + one < end else none
    c = codes[planes[last + two]] if last + two < end else none
    code, length = joined(a, b, c, none)
    return put(words, word, held, bits, code, length)


@inlined
def joined(a, b, c, d):
    """Four codes one after the other, and their bits together."""
    ab = a >> U(8) | (b >> U(8)) << (a & U(63))
    cd = c >> U(8) | (d >> U(8)) << (c & U(63))
    return ab | cd << (a + b & U(63)), a + b + c + d & U(63)
