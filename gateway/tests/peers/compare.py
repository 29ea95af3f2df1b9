"""Compares data sets element by element, as pydicom reads them, in whatever transfer syntax each of them is.

Pairs of Part 10 files come as lines with a tab on standard input. Says which tags differ, never the values, and ends
with 1 if any do. Group lengths and trailing padding may differ: peers that write a data set anew drop or make them.
Where one of the two is JPEG-LS or RLE and the other is not, DCMTK decodes it, in the planar configuration
of the other. Where one is Big Endian, its words are turned round, because pydicom leaves them as they are.
"""

import pathlib
import subprocess
import sys
import tempfile
import warnings

from pydicom import config, dcmread
from pydicom.uid import ExplicitVRBigEndian, JPEGLSLossless, RLELossless

config.settings.reading_validation_mode = config.IGNORE
warnings.simplefilter("ignore")
PADDING = 0xFFFCFFFC
DECODERS = {JPEGLSLossless: "dcmdjpls", RLELossless: "dcmdrle"}


def read(path):
    return dcmread(path, force=True)


def decoder_of(data_set):
    return DECODERS.get(getattr(data_set.file_meta, "TransferSyntaxUID", None))


def turn_round(data_set):
    """The words of a Big Endian data set, in Little Endian; they are at the top level."""
    for element in data_set:
        if element.VR == "OW":
            words = bytearray(element.value)
            words[0::2], words[1::2] = words[1::2], words[0::2]
            element.value = bytes(words)


def arrange(data_set, planar):
    """Has the samples of colour pixels of 8 bits stand beside each other (0) or in planes (1)."""
    if data_set.SamplesPerPixel == 1 or data_set.PlanarConfiguration == planar:
        return
    assert data_set.BitsAllocated == 8
    samples, size = data_set.SamplesPerPixel, data_set.Rows * data_set.Columns
    before, after = data_set.PixelData, bytearray(data_set.PixelData)
    for start in range(0, len(before) - samples * size + 1, samples * size):
        for sample in range(samples):
            beside = slice(start + sample, start + samples * size, samples)
            plane = slice(start + sample * size, start + (sample + 1) * size)
            source, target = (beside, plane) if planar else (plane, beside)
            after[target] = before[source]
    data_set[0x7FE00010].value = bytes(after)
    data_set.PlanarConfiguration = planar


def is_big_endian(data_set):
    return getattr(data_set.file_meta, "TransferSyntaxUID", None) == ExplicitVRBigEndian


def pair(one, other):
    """Both data sets, in one transfer syntax if one of them is in JPEG-LS or RLE."""
    sides = [read(one), read(other)]
    decoders = [decoder_of(side) for side in sides]
    if decoders[0] != decoders[1]:
        for number, (path, decoder) in enumerate(zip((one, other), decoders)):
            if decoder is not None:
                with tempfile.TemporaryDirectory() as folder:
                    native = pathlib.Path(folder, "native.dcm")
                    subprocess.run([decoder, "--quiet", "+te", path, native], check=True)
                    sides[number] = read(native)
                arrange(sides[number], getattr(sides[1 - number], "PlanarConfiguration", 0))
    if is_big_endian(sides[0]) != is_big_endian(sides[1]):
        turn_round(next(side for side in sides if is_big_endian(side)))
    return sides


def wanted(data_set):
    return {element.tag: element for element in data_set if element.tag.element != 0 and element.tag != PADDING}


def same_kind(one, other):
    """Whether two VRs may stand for each other: UN hides any, and DCMTK corrects OW of encapsulated pixel data to OB."""
    return one == other or "UN" in (one, other) or {one, other} == {"OB", "OW"}


def plain(value):
    """The value without its padding to even length, which is not part of it."""
    return value.rstrip(b"\0") if isinstance(value, bytes) else value


def differences(one, other):
    """The paths of the tags in which two data sets differ."""
    waiting = [("", one, other)]
    while waiting:
        path, one, other = waiting.pop()
        ours, theirs = wanted(one), wanted(other)
        for tag in sorted(ours.keys() | theirs.keys()):
            here = f"{path}{tag}"
            if tag not in ours or tag not in theirs:
                yield f"{here} only on one side"
                continue
            a, b = ours[tag], theirs[tag]
            if not same_kind(a.VR, b.VR):
                yield f"{here} is {a.VR} and {b.VR}"
            elif a.VR == "SQ" and b.VR == "SQ":
                if len(a.value) != len(b.value):
                    yield f"{here} has {len(a.value)} and {len(b.value)} items"
                waiting.extend(
                    (f"{here}[{number}].", x, y) for number, (x, y) in enumerate(zip(a.value, b.value))
                )
            elif plain(a.value) != plain(b.value):
                yield f"{here} has another value"


def main():
    failed = False
    for line in sys.stdin:
        one, other = line.rstrip("\n").split("\t")
        for difference in differences(*pair(one, other)):
            print(f"{one} and {other}: {difference}")
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
