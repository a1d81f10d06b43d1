"""A slow reader of zlib streams, bit by bit, written from RFC 1950 and RFC 1951."""

import zlib

LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
               99, 115, 131, 163, 195, 227, 258]  # fmt: skip
LENGTH_EXTRA = [0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0]
CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]


class Bits:
    """Bits of a stream, lowest first."""

    def __init__(self, data):
        self.data, self.position = data, 0

    def take(self, count):
        """A number of so many bits, its lowest first."""
        number = 0
        for place in range(count):
            number |= (self.data[self.position // 8] >> self.position % 8 & 1) << place
            self.position += 1
        return number

    def symbol(self, codes):
        """A symbol of a code, ``{(length, code): symbol}``; codes come highest bit first."""
        code, length = 0, 0
        while (length, code) not in codes:
            code, length = code << 1 | self.take(1), length + 1
            assert length <= 15, "no such code"
        return codes[length, code]


def canonical(lengths):
    """Section 3.2.2: (length, code) of every symbol, to the symbol; complete, or one bit alone."""
    codes, code = {}, 0
    for length in range(1, 16):
        for symbol, own in enumerate(lengths):
            if own == length:
                codes[length, code] = symbol
                code += 1
        code <<= 1
    used = sum(2.0**-length for length in lengths if length)
    assert used == 1 or [length for length in lengths if length] == [1], "code is not complete"
    return codes


def dynamic_codes(bits):
    """Section 3.2.7: the codes of bytes and lengths, and of distances."""
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    sizes = [0] * 19
    for place in range(count):
        sizes[CODE_ORDER[place]] = bits.take(3)
    codes, lengths = canonical(sizes), []
    while len(lengths) < literals + distances:
        symbol = bits.symbol(codes)
        if symbol < 16:
            lengths.append(symbol)
        elif symbol == 16:
            lengths += [lengths[-1]] * (bits.take(2) + 3)
        else:
            lengths += [0] * (bits.take(3) + 3 if symbol == 17 else bits.take(7) + 11)
    assert len(lengths) == literals + distances
    return canonical(lengths[:literals]), canonical(lengths[literals:])


def inflate_block(bits, out):
    """A block with codes of its own; our streams copy from one byte before alone."""
    literals, distances = dynamic_codes(bits)
    while (symbol := bits.symbol(literals)) != 256:
        if symbol < 256:
            out.append(symbol)
            continue
        length = LENGTH_BASE[symbol - 257] + bits.take(LENGTH_EXTRA[symbol - 257])
        assert bits.symbol(distances) == 0
        out += out[-1:] * length


def inflate(data):
    """Contents of a zlib stream; AssertionError if anything in it is wrong."""
    assert data[0] == 0x78
    assert (data[0] * 256 + data[1]) % 31 == 0
    assert not data[1] & 32
    bits, out, last = Bits(data[2:]), bytearray(), False
    while not last:
        last, kind = bits.take(1), bits.take(2)
        if kind == 0:
            bits.position = -(-bits.position // 8) * 8
            size, check = bits.take(16), bits.take(16)
            assert size == check ^ 0xFFFF
            out += bytes(bits.take(8) for _ in range(size))
        else:
            assert kind == 2
            inflate_block(bits, out)
    end = 2 + -(-bits.position // 8)
    assert int.from_bytes(data[end:], "big") == zlib.adler32(bytes(out))
    assert len(data) == end + 4
    return bytes(out)
