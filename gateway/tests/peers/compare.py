"""Compares data sets element by element, as pydicom reads them, in whatever transfer syntax each of them is.

Pairs of Part 10 files come as lines with a tab on standard input. Says which tags differ, never the values, and ends
with 1 if any do. Group lengths and trailing padding may differ: peers that write a data set anew drop or make them.
"""

import sys
import warnings

from pydicom import config, dcmread

config.settings.reading_validation_mode = config.IGNORE
warnings.simplefilter("ignore")
PADDING = 0xFFFCFFFC


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
        for difference in differences(dcmread(one, force=True), dcmread(other, force=True)):
            print(f"{one} and {other}: {difference}")
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
