"""Decodes what tests/pixels.rs has coded with decoders that have nothing to do with the gateway, and compares.

    python check_pixels.py pairs.tsv

Each line of the list names a sample, the stored file and the coded one. Needs pydicom, numpy, pyjpegls (CharLS), GDCM, and
DCMTK's dcmdjpls, dcmdrle and dcmconv. Compared are the cells of every frame with all their bits, and every element but Pixel
Data and Planar Configuration as pydicom reads both. Prints each difference and the numbers; the exit status is 1 if there is a
difference, or if a decoder has decoded nothing.
"""

import collections
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy
import pydicom
from pydicom.pixels import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

# The plugins of pydicom, and the program of DCMTK.
DECODERS = {
    JPEGLSLossless: (("pyjpegls", "gdcm"), "dcmdjpls"),
    RLELossless: (("pydicom",), "dcmdrle"),
    DeflatedExplicitVRLittleEndian: ((), "dcmconv"),
}
CHANGED = {0x00280006, 0x7FE00010}

counts = collections.Counter()
differences = []
scratch = tempfile.TemporaryDirectory()


def cells(data_set, **options):
    """Every cell with all its bits, whatever of them is used."""
    decoder = get_decoder(data_set.file_meta.TransferSyntaxUID)
    array, _ = decoder.as_array(data_set, raw=True, correct_unused_bits=False, **options)
    return array.astype(array.dtype.newbyteorder("="))


def differ(where, decoder, stored, decode):
    try:
        decoded = decode()
    except Exception as error:
        differences.append(f"{where}: {decoder} cannot decode it: {error!r}"[:300])
        return
    counts[decoder] += 1
    if stored.dtype != decoded.dtype or not numpy.array_equal(stored, decoded):
        differences.append(f"{where}: {decoder} decodes another image")


def by_dcmtk(program, coded):
    native = pathlib.Path(scratch.name, "native.dcm")
    native.unlink(missing_ok=True)
    done = subprocess.run([program, "--quiet", "+te", coded, native], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return pydicom.dcmread(native)


def as_words(value, turn):
    """Other words, which pydicom leaves in the byte order of the file, in little endian."""
    return b"".join(value[at : at + 2][::-1] for at in range(0, len(value), 2)) if turn else value


def elements(where, stored, coded):
    tags = [{tag for tag in data_set.keys() if tag not in CHANGED and tag.element} for data_set in (stored, coded)]
    if tags[0] != tags[1]:
        differences.append(f"{where}: tags differ: {tags[0] ^ tags[1]}")
    for tag in tags[0] & tags[1]:
        try:
            one, other = stored[tag], coded[tag]
        except Exception:
            # A value that pydicom does not understand; the gateway's own digest has compared its bytes.
            counts["elements not understood"] += 1
            continue
        counts["elements"] += 1
        turn = one.VR == "OW" and not stored.original_encoding[1]
        if as_words(one.value, turn) != other.value and str(one.value) != str(other.value):
            differences.append(f"{where}: {tag} differs")


def compare(name, stored_file, coded_file):
    stored, coded = pydicom.dcmread(stored_file), pydicom.dcmread(coded_file)
    syntax = coded.file_meta.TransferSyntaxUID
    where = f"{name} in {syntax.name}"
    plugins, program = DECODERS[syntax]
    counts[syntax.name] += 1
    elements(where, pydicom.dcmread(stored_file), pydicom.dcmread(coded_file))
    if syntax == DeflatedExplicitVRLittleEndian:
        if stored.get("PixelData") is not None and stored.is_little_endian is not False:
            if stored.PixelData != coded.PixelData:
                differences.append(f"{where}: pydicom reads other pixels")
            counts["inflated by pydicom"] += 1
        return
    native = cells(stored)
    for plugin in plugins:
        differ(where, plugin, native, lambda: cells(coded, decoding_plugin=plugin))
    differ(where, program, native, lambda: cells(by_dcmtk(program, coded_file)))


for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    compare(*line.split("\t"))
print(*differences[:100], sep="\n")
print(len(differences), "differences", dict(counts))
idle = [decoder for plugins, program in DECODERS.values() for decoder in plugins if not counts[decoder]]
print("have decoded nothing:", idle) if idle else None
sys.exit(bool(differences or idle))
