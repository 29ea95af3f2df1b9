"""Compares the conversions that tests/data_sets.rs wrote with their sources, as pydicom reads both.

    WAYSTATION_STUDIES=folder WAYSTATION_CONVERTED=other cargo test --test data_sets
    python check_conversions.py folder other

Needs pydicom and numpy. Prints every difference and the numbers; the exit status is 1 if there is a difference.
Compared are, for every element at every depth: that it is there on both sides, that the bytes of its value are the same
(turned round where the source is big endian), and once for each file the decoded pixels.
"""

import collections
import pathlib
import sys
import warnings

import numpy
import pydicom
from pydicom.dataelem import RawDataElement

warnings.simplefilter("ignore")
# Bytes that change their order together, by VR; all others have none.
WORDS = {"AT": 2, "OW": 2, "SS": 2, "US": 2, "FL": 4, "OF": 4, "OL": 4, "SL": 4, "UL": 4}
WORDS |= {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}

counts = collections.Counter()
differences = []


def leaf_bytes(element):
    return bytes(element.value or b"") if isinstance(element, RawDataElement) else None


def turned(value, word):
    return b"".join(value[at : at + word][::-1] for at in range(0, len(value), word))


def compare(source, converted, where):
    tags = {tag for tag in source.keys() if tag.element != 0}
    if tags != {tag for tag in converted.keys() if tag.element != 0}:
        differences.append(f"{where}: tags differ: {tags ^ set(converted.keys())}")
        return
    for tag in sorted(tags):
        path = f"{where} {tag}"
        raw = (leaf_bytes(source.get_item(tag)), leaf_bytes(converted.get_item(tag)))
        try:
            one, other = source[tag], converted[tag]
        except Exception:
            # pydicom's private dictionary is of another opinion than the device: the bytes decide.
            counts["elements compared as bytes only"] += 1
            if raw[0] is None or raw[0] != raw[1]:
                differences.append(f"{path}: bytes differ")
            continue
        if "SQ" in (one.VR, other.VR):
            if one.VR != other.VR and bytes(one.value or b"") + bytes(other.value or b"") != b"":
                # A private sequence of defined length is UN to a reader of Implicit VR.
                differences.append(f"{path}: {one.VR} became {other.VR}")
                continue
            items, converted_items = one.value or [], other.value or []
            counts["sequences"] += 1
            if len(items) != len(converted_items):
                differences.append(f"{path}: {len(items)} items became {len(converted_items)}")
            for number, pair in enumerate(zip(items, converted_items)):
                compare(*pair, f"{path}[{number}]")
            continue
        counts["elements"] += 1
        if None in raw:
            same = (one.value or None) == (other.value or None)
        elif source.original_encoding[1]:
            same = raw[0] == raw[1]
        else:
            same = turned(raw[0], WORDS.get(one.VR, 1)) == raw[1]
        if not same:
            differences.append(f"{path}: {str(one)[:80]} became {str(other)[:80]}")
        if one.VR == other.VR:
            counts["same VR"] += 1
        else:
            counts[f"VR {one.VR} to {other.VR}"] += 1


def pixels(data_set):
    try:
        return data_set.pixel_array
    except Exception as error:  # not every data set has pixels that pydicom understands
        return type(error).__name__


def main(studies, converted_folder):
    for path in sorted(pathlib.Path(converted_folder).iterdir()):
        name = path.name.rsplit("@", 1)[0].replace("%", "/")
        original = pathlib.Path(studies) / name
        if not original.is_file():
            continue
        counts["files"] += 1
        source, converted = pydicom.dcmread(original), pydicom.dcmread(path)
        one, other = pixels(source), pixels(converted)
        if isinstance(one, str) or isinstance(other, str):
            counts["without pixels"] += 1
            if isinstance(one, str) != isinstance(other, str):
                differences.append(f"{path.name}: pixels {one if isinstance(one, str) else ''} {other}")
        else:
            counts["with pixels"] += 1
            if not numpy.array_equal(one, other):
                differences.append(f"{path.name}: pixels differ")
        compare(pydicom.dcmread(original), pydicom.dcmread(path), path.name)


main(*sys.argv[1:3])
print(*differences[:100], sep="\n")
print(len(differences), "differences", dict(counts))
sys.exit(bool(differences))
