#!/usr/bin/env python3
"""Makes the benchmark's data. All randomness is seeded: the same numpy version gives the same bytes.

    gen.py [--scale F] mixed|small|big DIR       creates state 0
    gen.py [--scale F] change DIR SAVE           changes about 1 % of the files of a tree, which makes state 1
    gen.py [--scale F] bigchange FILE SAVE       overwrites about 1 % of a big file in place

SAVE receives what is needed to go back and forth between the two states: for files, `before/` and `after/` with a copy
of each that differs; for a big file, `ranges` (lines of offset and length), `before.bin` and `after.bin`. Both changes
print one line of JSON. With --scale 0.01 every set has a hundredth of its size."""

import argparse
import json
import os
import shutil

import numpy as np

KEYWORDS = (
    "if else for while return struct enum impl pub fn let mut match use self const static void int char unsigned long"
    " include define NULL true false def class import from try except raise with as lambda None and or not in is"
).split()
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
SEPARATORS = [
    " ", " ", "(", ") ", ", ", ".", " = ", "::", ";\n    ", ";\n        ", " {\n    ", "\n}\n\n", " + ", "->", "[", "] ",
]  # fmt: skip
MTIME = 1_700_000_000
MIB, GIB = 1 << 20, 1 << 30
PAGE_BITS = 12


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def vocabulary(rng, count=6000):
    words = []
    for _ in range(count):
        syllables = rng.integers(1, 5)
        word = "".join(CONSONANTS[rng.integers(len(CONSONANTS))] + VOWELS[rng.integers(5)] for _ in range(syllables))
        if rng.random() < 0.3:
            word = word + "_" + CONSONANTS[rng.integers(len(CONSONANTS))] + VOWELS[rng.integers(5)]
        if rng.random() < 0.15:
            word = word.capitalize()
        words.append(word)
    words[: len(KEYWORDS)] = KEYWORDS
    return words


class Text:
    """Source-like lines: identifiers by Zipf's law, punctuation, and 40 % of the lines out of a common pool."""

    def __init__(self, seed):
        self.rng = generator(seed)
        self.words = np.array(vocabulary(self.rng), dtype=object)
        weight = 1 / np.arange(1, len(self.words) + 1) ** 0.9
        self.cumulated = np.cumsum(weight / weight.sum())
        self.separators = np.array(SEPARATORS, dtype=object)
        # These twenty draws only move the generator on; the data sets were first made with them.
        for _ in range(20):
            self.raw(1)
        self.common = np.array([line + "\n" for line in self.raw(20000).split("\n")[:3000]], dtype=object)
        self.buffer, self.position = b"", 0

    def raw(self, kibibytes):
        count = kibibytes * 1024 // 7 + 16
        drawn = np.searchsorted(self.cumulated, self.rng.random(count))
        parts = np.empty(2 * count, dtype=object)
        parts[0::2] = self.words[np.minimum(drawn, len(self.words) - 1)]
        parts[1::2] = self.separators[self.rng.integers(0, len(self.separators), count)]
        return "".join(parts.tolist())

    def block(self):
        lines = np.array(self.raw(4096).split("\n"), dtype=object)
        replaced = self.rng.random(len(lines)) < 0.4
        lines[replaced] = self.common[self.rng.integers(0, len(self.common), int(replaced.sum()))]
        return "\n".join(lines.tolist()).encode()

    def take(self, count):
        parts = []
        while count:
            if self.position >= len(self.buffer):
                self.buffer, self.position = self.block(), 0
            part = self.buffer[self.position : self.position + count]
            self.position += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, (MTIME, MTIME))


def tree_path(rng, number):
    h = int(rng.integers(0, 1 << 30))
    return f"d{h % 8}/m{h // 8 % 6}/sub{h // 48 % 5}/x{h // 240 % 4}/y{h // 960 % 3}/f{number:06d}"


def mixed(directory, scale):
    """4.3 GB in 40,000 files: source-like text, what does not compress, and large files with duplicates in them."""
    rng, text = generator(11), Text(12)
    sizes = np.clip(rng.lognormal(9.9, 1.0, 60000), 200, 2_000_000).astype(int)
    total = 0
    for number, size in enumerate(sizes):
        if total > 1.2 * GIB * scale:
            break
        write(f"{directory}/src/{tree_path(rng, number)}.c", text.take(int(size)))
        total += size
    total, number = 0, 0
    while total < 1.3 * GIB * scale:
        size = int(np.clip(rng.lognormal(13.8, 1.2), 50_000, 32 << 20))
        write(f"{directory}/bin/{tree_path(rng, number)}.bin", rng.bytes(size))
        total += size
        number += 1
    # Half of the segments of these six are duplicates, at places that are not aligned.
    pool = []
    for number in range(6):
        parts, total = [], 0
        while total < 256 * MIB * scale:
            if pool and rng.random() < 0.5:
                segment = pool[int(rng.integers(len(pool)))]
            else:
                segment = rng.bytes(4 * MIB) if rng.random() < 0.5 else text.take(4 * MIB)
                pool.append(segment)
            parts.append(segment)
            total += len(segment)
            if rng.random() < 0.5:
                shift = rng.bytes(int(rng.integers(1, 5000)))
                parts.append(shift)
                total += len(shift)
        write(f"{directory}/large/dump{number}.dat", b"".join(parts))


def small(directory, scale):
    """1.7 GB in 200,000 files of 1 to 16 KiB."""
    rng, text = generator(21), Text(22)
    for number in range(round(200_000 * scale)):
        write(f"{directory}/{tree_path(rng, number)}.txt", text.take(int(rng.integers(1024, 16385))))


def big(directory, scale):
    """One image of 8 GiB: three tenths holes, a quarter text, the rest incompressible or a duplicate."""
    os.makedirs(directory, exist_ok=True)
    rng, text = generator(31), Text(32)
    block_size = 4 * MIB
    size = max(1, round((8 * GIB // block_size) * scale)) * block_size
    path = f"{directory}/disk.img"
    with open(path, "wb") as file:
        file.truncate(size)
        recent = []
        for offset in range(0, size, block_size):
            kind = rng.random()
            if kind < 0.30:
                continue  # a hole
            if kind < 0.55:
                block = text.take(block_size)
            elif kind < 0.90:
                block = rng.bytes(block_size)
            else:
                block = recent[int(rng.integers(len(recent)))] if recent else rng.bytes(block_size)
            if rng.random() < 0.2:
                recent = (recent + [block])[-40:]
            file.seek(offset)
            file.write(block)
    os.utime(path, (MTIME, MTIME))


def keep(path, directory, save):
    """Copies a file of the tree, times, mode and owner with it, to the same place below `save`; a missing one has no copy."""
    if os.path.lexists(path):
        copy = os.path.join(save, os.path.relpath(path, directory))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(path, copy)
        found = os.stat(path)
        os.chown(copy, found.st_uid, found.st_gid)


def regular_files(directory):
    found = []
    for parent, directories, names in os.walk(directory):
        directories.sort()
        found += [os.path.join(parent, name) for name in sorted(names)]
    return [path for path in found if os.path.isfile(path) and not os.path.islink(path)]


def change(directory, save):
    """1 % of the files: 60 % edited in the middle, 20 % appended to, 10 % new, 10 % deleted."""
    rng, text = generator(41), Text(42)
    files = regular_files(directory)
    picked = rng.permutation(len(files))[: max(10, len(files) // 100)]
    in_them = 0
    for number in picked:
        path, kind = files[int(number)], rng.random()
        size = os.stat(path).st_size
        changed = path + ".new" if 0.1 <= kind < 0.2 else path
        keep(changed, directory, f"{save}/before")
        if kind < 0.1:
            os.unlink(path)
            continue
        in_them += size
        if kind < 0.2:
            write(changed, text.take(min(size, MIB) or 100))
        elif kind < 0.4:
            with open(path, "ab") as file:
                file.write(text.take(2000))
        else:
            with open(path, "rb") as file:
                content = file.read()
            middle = len(content) // 2
            edit = text.take(min(len(content) // 8 + 10, 65536))
            with open(path, "wb") as file:
                file.write(content[:middle] + edit + content[middle + len(edit) // 2 :])
        keep(changed, directory, f"{save}/after")
    print(json.dumps({"changed": len(picked), "of": len(files), "bytes_in_changed": in_them}))


def merged(ranges):
    """The union of ranges of (offset, length), in order."""
    union = []
    for offset, length in sorted(ranges):
        if union and offset <= union[-1][0] + union[-1][1]:
            first, so_far = union[-1]
            union[-1] = (first, max(so_far, offset + length - first))
        else:
            union.append((offset, length))
    return union


def whole_pages(offset, length):
    first = offset >> PAGE_BITS
    last = (offset + length - 1) >> PAGE_BITS
    return first << PAGE_BITS, (last - first + 1) << PAGE_BITS


def copy_ranges(file, ranges, path):
    with open(path, "wb") as copy:
        for offset, length in ranges:
            file.seek(offset)
            copy.write(file.read(length))


def bigchange(path, save, scale):
    """41 writes of 1 MiB anywhere and 2,624 of 16 KiB within one GiB, all at multiples of 4 KiB."""
    rng, size = generator(51), os.path.getsize(path)
    writes = []
    for _ in range(max(1, round(41 * scale))):
        offset = int(rng.integers(0, (size - MIB) >> PAGE_BITS)) << PAGE_BITS
        writes.append((offset, rng.bytes(MIB)))
    for _ in range(max(1, round(2624 * scale))):
        offset = size // 3 + (int(rng.integers(0, max(1, round((1 << 18) * scale)))) << PAGE_BITS)
        writes.append((offset, rng.bytes(16384)))
    # The saved ranges are whole pages, so that going back can make holes of pages that were holes.
    pages = merged(whole_pages(offset, len(data)) for offset, data in writes)
    os.makedirs(save, exist_ok=True)
    with open(path, "r+b") as file:
        copy_ranges(file, pages, f"{save}/before.bin")
        for offset, data in writes:
            file.seek(offset)
            file.write(data)
        copy_ranges(file, pages, f"{save}/after.bin")
    with open(f"{save}/ranges", "w", encoding="ascii") as file:
        file.writelines(f"{offset} {length}\n" for offset, length in pages)
    written = merged((offset, len(data)) for offset, data in writes)
    print(json.dumps({"changed": 1, "of": 1, "bytes_in_changed": sum(length for _, length in written)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("what", choices=["mixed", "small", "big", "change", "bigchange"])
    parser.add_argument("path")
    parser.add_argument("save", nargs="?")
    options = parser.parse_args()
    if options.what in ("change", "bigchange") and options.save is None:
        parser.error(f"{options.what} needs a directory to save the differences in")
    if options.what == "change":
        change(options.path, options.save)
    elif options.what == "bigchange":
        bigchange(options.path, options.save, options.scale)
    else:
        {"mixed": mixed, "small": small, "big": big}[options.what](options.path, options.scale)


if __name__ == "__main__":
    main()
