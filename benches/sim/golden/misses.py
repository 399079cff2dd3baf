#!/usr/bin/env python3
"""Writes misses.csv: how often libCacheSim's policies miss.

    python3 -m venv venv && venv/bin/pip install libcachesim==0.3.5
    venv/bin/python benches/sim/golden/misses.py > benches/sim/golden/misses.csv

The sequences of keys come from 32-bit integer arithmetic, so that `benches/sim/src/golden.rs` makes the same ones.
"""

import importlib.metadata

import libcachesim as lib

LENGTH = 4000
SIZES = [4, 8, 12, 16, 20, 32, 40, 64]


class Generator:
    """Marsaglia's xorshift with the shifts 13, 17 and 5."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return x % bound


class Zipf:
    """Key `i` of `keys` has the weight 1 / (i + 1)."""

    def __init__(self, keys):
        self.sums = []
        total = 0
        for i in range(keys):
            total += (1 << 20) // (i + 1)
            self.sums.append(total)

    def draw(self, generator):
        point = generator.below(self.sums[-1])
        return next(key for key, end in enumerate(self.sums) if point < end)


def zipf():
    generator, keys = Generator(1), Zipf(256)
    return [keys.draw(generator) for _ in range(LENGTH)]


def loop():
    """Rings of growing length."""
    rings = [6, 12, 24, 48, 96]
    part = LENGTH // len(rings)
    return [1000 * ring + i % ring for ring in rings for i in range(part)]


def scan():
    """Of 250 keys, 200 are of a Zipf distribution; then 50 of a ring of 400 follow one another."""
    generator, keys = Generator(2), Zipf(128)
    place = 0
    sequence = []
    for i in range(LENGTH):
        if i % 250 < 200:
            sequence.append(keys.draw(generator))
        else:
            sequence.append(10_000 + place % 400)
            place += 1
    return sequence


def shift():
    """Any of 30 keys, which are 10 others after each 250."""
    generator = Generator(3)
    return [i // 250 * 10 + generator.below(30) for i in range(LENGTH)]


def uniform():
    generator = Generator(4)
    return [generator.below(100) for _ in range(LENGTH)]


SEQUENCES = [zipf, loop, scan, shift, uniform]

# Our policy and its parameters, libCacheSim's for that size, and the least size that libCacheSim's works for.
POLICIES = [
    ("opt", lib.Belady, {}, 1),
    ("fifo", lib.FIFO, {}, 1),
    ("lru", lib.LRU, {}, 1),
    ("sieve", lib.Sieve, {}, 1),
    ("lfu", lib.LFU, {}, 1),
    ("2q", lib.TwoQ, {}, 1),
    ("clock:initial=0", lib.Clock, {}, 1),
    ("clock", lib.Clock, {"init_freq": 1}, 1),
    ("clock:bits=2,initial=0", lib.Clock, {"n_bit_counter": 2}, 1),
    ("clock:bits=3,initial=1", lib.Clock, {"n_bit_counter": 3, "init_freq": 1}, 1),
    ("arc", lib.ARC, {}, 1),
    ("slru:segments=4,protected=75,new=free", lib.SLRU, {}, 1),
    ("s3-fifo:fill=main,overflow=small", lib.S3FIFO, {}, 20),
    ("s3-fifo:small=25,ghosts=75,fill=main,overflow=small", lib.S3FIFO,
     {"small_size_ratio": 0.25, "ghost_size_ratio": 0.75}, 8),
    ("s3-fifo:small=50,threshold=1,fill=main,overflow=small", lib.S3FIFO,
     {"small_size_ratio": 0.5, "move_to_main_threshold": 1}, 4),
    ("lirs:stack=200", lib.LIRS, {}, 1),
    ("lru-k:ghosts=0,ties=fifo", lib.LRUK, {}, 1),
    ("lru-k:k=3,ghosts=0,ties=fifo", lib.LRUK, {"k": 3}, 1),
    ("mq", lib.MQ, {}, 1),
    ("mq:queues=4,lifetime=50,ghosts=100", lib.MQ, {"n_queue": 4, "lifetime": 50, "qout_size_ratio": 1.0}, 1),
    ("lecar:learn=off,lru=100", lib.LeCaR, {"update_weight": False, "lru_weight": 1.0}, 1),
    ("lecar:learn=off,lru=0", lib.LeCaR, {"update_weight": False, "lru_weight": 0.0}, 1),
]

# Where libCacheSim does not do what the paper says: the same, one size, and a key for each letter.
FAULTS = [
    ("lirs:stack=200", lib.LIRS, {}, 3, "ABCABCDC"),
    ("slru:segments=4,protected=75,new=free", lib.SLRU, {}, 5, "ABCDEAABBCCDDEE"),
    ("s3-fifo:fill=main,overflow=small", lib.S3FIFO, {}, 10, "AAABBB"),
    ("w-tinylfu", lib.WTinyLFU, {}, 10, "AAABBB"),
    ("clock-pro", lib.ClockPro, {}, 4, "ABCDEFEFEFABAB"),
    ("gdsf", lib.GDSF, {}, 2, "AAABBBCCCDCDCD"),
]


def misses(make, parameters, size, sequence):
    cache = make(size, hashpower=16, **parameters)
    # For Belady: when the key is requested again, 2^63 - 1 for never.
    following, next_of = [], {}
    for i in range(len(sequence) - 1, -1, -1):
        following.append(next_of.get(sequence[i], 2**63 - 1))
        next_of[sequence[i]] = i + 1
    following.reverse()
    request = lib.Request(obj_size=1)
    count = 0
    for key, again in zip(sequence, following):
        request.obj_id = key
        request.next_access_vtime = again
        count += not cache.get(request)
    return count


def main():
    print(f"# libCacheSim {importlib.metadata.version('libcachesim')}, by misses.py")
    print("policy;sequence;size;misses")
    for name, make, parameters, least in POLICIES:
        for sequence in SEQUENCES:
            keys = sequence()
            for size in SIZES:
                if size >= least:
                    print(f"{name};{sequence.__name__};{size};{misses(make, parameters, size, keys)}")
    for name, make, parameters, size, letters in FAULTS:
        print(f"{name};{letters};{size};{misses(make, parameters, size, [ord(letter) for letter in letters])}")


if __name__ == "__main__":
    main()
