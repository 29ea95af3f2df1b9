"""Compares what arrived with what was sent: instance by instance, by SOP Instance UID.

Arguments: the folder that was sent and the folder that arrived. Compressed pixel data is decoded by others' code first:
JPEG-LS, JPEG lossless and RLE by DCMTK, JPEG 2000 and HTJ2K by OpenJPEG and OpenJPH where Python's imagecodecs is
installed. Prints one JSON object: "sent" and "arrived" instances, of these "identical" (the data set byte for byte) and
"pixels" (other bytes, but the same pixels), the "wrong" ones with the reason; "partial" files, which an archive leaves
behind when a transfer breaks off, count as nothing. "bytes" are those of the data sets that arrived.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pydicom import config, dcmread
from pydicom.encaps import generate_frames

config.settings.reading_validation_mode = config.IGNORE
PLAIN = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
DCMTK = {"1.2.840.10008.1.2.4.80": "dcmdjpls", "1.2.840.10008.1.2.4.70": "dcmdjpeg", "1.2.840.10008.1.2.4.57": "dcmdjpeg",
         "1.2.840.10008.1.2.5": "dcmdrle"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"}
# Bytes before the file meta group: of a file that is no longer, nothing is known (PS3.10 7.1).
PREAMBLE = 132


def data_set(path):
    """The bytes behind the file meta group."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length:]


def files(folder):
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            try:
                instance = dcmread(path, stop_before_pixels=True)
                found.setdefault(str(instance.SOPInstanceUID), []).append(path)
            except Exception as error:
                found.setdefault(f"{path.name}: {error}", []).append(path)
    return found


def decoded(path, scratch):
    """The pixel data without compression, little endian, and whether its samples are in planes."""
    image = dcmread(path)
    syntax = str(image.file_meta.TransferSyntaxUID)
    if syntax in PLAIN:
        return image.PixelData, image.get("PlanarConfiguration", 0) == 1
    if syntax in DCMTK:
        out = Path(scratch) / "decoded.dcm"
        subprocess.run([DCMTK[syntax], str(path), str(out)], check=True, capture_output=True)
        return decoded(out, scratch)
    if syntax in JPEG_2000:
        import imagecodecs
        decode = imagecodecs.jpeg2k_decode if syntax.endswith(".90") else imagecodecs.htj2k_decode
        kind = ("<i" if image.PixelRepresentation else "<u") + str(image.BitsAllocated // 8)
        frames = generate_frames(image.PixelData, number_of_frames=int(image.get("NumberOfFrames", 1) or 1))
        return b"".join(decode(frame).astype(kind).tobytes() for frame in frames), False
    raise ValueError(f"no decoder for {syntax}")


def pixels(path, scratch):
    """The same, with the samples of each pixel side by side, and without the byte that makes it even."""
    image = dcmread(path, stop_before_pixels=True)
    data, is_planar = decoded(path, scratch)
    if image.BitsAllocated % 8:
        return data
    samples, size = image.SamplesPerPixel, image.BitsAllocated // 8
    plane = image.Rows * image.Columns * size
    count = int(image.get("NumberOfFrames", 1) or 1)
    data = data[:plane * samples * count]
    if samples == 1 or not is_planar:
        return data
    mixed = bytearray(len(data))
    for frame in range(0, len(data), plane * samples):
        for sample in range(samples):
            for byte in range(size):
                start = frame + sample * plane
                step = samples * size
                place = slice(frame + sample * size + byte, frame + plane * samples, step)
                mixed[place] = data[start + byte:start + plane:size]
    return bytes(mixed)


def compare(one, other, scratch):
    """"identical", "pixels", or what is wrong."""
    if data_set(one) == data_set(other):
        return "identical"
    before, after = dcmread(one), dcmread(other)
    is_recoded = before.file_meta.TransferSyntaxUID != after.file_meta.TransferSyntaxUID
    # Senders write the header anew, with other lengths; it is some kilobytes.
    if not is_recoded and len(data_set(other)) + 16384 < len(data_set(one)):
        return "partial"
    if before.get("PixelData") is None:
        return "no pixels, and other bytes"
    # The same fragments: it was compressed before.
    if not is_recoded and before.PixelData == after.PixelData:
        return "pixels"
    return "pixels" if pixels(one, scratch) == pixels(other, scratch) else "other pixels"


def outcome_of(one, other, scratch):
    """The same, also of what cannot be read."""
    try:
        return compare(one, other, scratch)
    except EOFError:
        return "partial"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    sent, arrived = files(sys.argv[1]), files(sys.argv[2])
    result = {"sent": len(sent), "arrived": 0, "identical": 0, "pixels": 0, "partial": 0, "wrong": [], "bytes": 0}
    with tempfile.TemporaryDirectory() as scratch:
        for uid, paths in arrived.items():
            if uid not in sent:
                if all(path.stat().st_size <= PREAMBLE for path in paths):
                    result["partial"] += 1
                else:
                    result["wrong"].append(f"{uid} was never sent")
                continue
            outcomes = {path: outcome_of(sent[uid][0], path, scratch) for path in paths}
            # An instance that was sent again may have left pieces beside the one that is whole.
            whole = {path: outcome for path, outcome in outcomes.items() if outcome != "partial"}
            result["partial"] += len(outcomes) - len(whole)
            if not whole:
                continue
            result["arrived"] += 1
            result["bytes"] += len(data_set(next(iter(whole))))
            wrong = [outcome for outcome in whole.values() if outcome not in ("identical", "pixels")]
            if wrong:
                result["wrong"].append(f"{uid}: {wrong[0]}")
            else:
                result[min(whole.values())] += 1
    print(json.dumps(result))


main()
