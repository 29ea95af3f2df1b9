"""JPEG-LS (CharLS) and HTJ2K (OpenJPH) on the frames that standard input names, one thread.

A line for each image: path, rows, columns, samples per pixel, bytes of a sample, "signed" or "unsigned", "big" or
"little", "interleaved" or "planar"; between them tabs. Standard output has a line for each codec: name, bytes, and the
seconds of this thread's processor time that encoding and decoding everything took, the best of the rounds.
"""

import sys
import time

import imagecodecs
import jpeg_ls
import numpy

ROUNDS = int(sys.argv[1])


def frames(line):
    """The frames of an image, as both codecs like them best: least value 0, so that no more bits are used than needed."""
    path, rows, columns, samples, size, sign, order, layout = line.rstrip("\n").split("\t")
    rows, columns, samples = int(rows), int(columns), int(samples)
    if layout == "planar":
        columns, rows, samples = columns, rows * samples, 1
    kind = numpy.dtype(("i" if sign == "signed" else "u") + size).newbyteorder("<" if order == "little" else ">")
    words = numpy.fromfile(path, dtype=kind).astype("i4")
    count = len(words) // (rows * columns * samples)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    for frame in numpy.split(words[: count * rows * columns * samples], count):
        yield numpy.ascontiguousarray((frame - frame.min()).astype("u" + size).reshape(shape))


class JpegLs:
    name = "JPEG-LS"

    def encode(self, frame):
        rows, columns = frame.shape[:2]
        samples = 1 if frame.ndim == 2 else frame.shape[2]
        # Up to 8 bits it would take for a byte.
        least = 2 if frame.itemsize == 1 else 9
        return jpeg_ls.encode_pixel_data(
            frame.tobytes(), rows=rows, columns=columns, samples_per_pixel=samples, bits_allocated=frame.itemsize * 8,
            bits_stored=max(least, int(frame.max()).bit_length()), planar_configuration=0,
            photometric_interpretation="MONOCHROME2" if samples == 1 else "RGB")

    def decode(self, data):
        return jpeg_ls.decode_pixel_data(data)[0]


class Htj2k:
    name = "HTJ2K"

    def encode(self, frame):
        return imagecodecs.htj2k_encode(frame, reversible=True)

    def decode(self, data):
        return imagecodecs.htj2k_decode(data)


def measure(codec, images):
    size, encode, decode = 0, 0.0, 0.0
    for frame in images:
        began = time.thread_time()
        data = codec.encode(frame)
        encoded = time.thread_time()
        again = codec.decode(data)
        decode += time.thread_time() - encoded
        encode += encoded - began
        if bytes(again) != frame.tobytes():
            sys.exit(f"{codec.name}: the image is not what it was")
        size += len(data)
    return size, encode, decode


images = [frame for line in sys.stdin for frame in frames(line)]
for codec in JpegLs(), Htj2k():
    rounds = [measure(codec, images) for _ in range(ROUNDS)]
    print(codec.name, rounds[0][0], min(r[1] for r in rounds), min(r[2] for r in rounds), sep="\t")
