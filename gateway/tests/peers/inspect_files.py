"""Says of every file below a folder whether it is a valid DICOM instance, judged by pydicom and DCMTK, not by Waystation.

Prints one JSON line for each file: `reason` says why it is not valid and is absent if it is; `offset` is where the data
set begins, absent if there is no file meta group.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import warnings

from pydicom import config, dcmread
from pydicom.uid import UID
from pynetdicom.dsutils import split_dataset

config.settings.reading_validation_mode = config.IGNORE
# Leading zeros of a component break PS3.5 9.1 but are common; nobody refuses them.
UID_FORM = re.compile(r"^[0-9]+(\.[0-9]+)*$")
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


class NotValid(Exception):
    """Why a file cannot be expected to arrive."""


def parse_everything(data_set):
    """Parses what pydicom has left unparsed, to any depth."""
    waiting = [data_set]
    while waiting:
        for element in waiting.pop():
            if element.VR == "SQ":
                waiting.extend(element.value)


def check_uid(name, value):
    if not isinstance(value, str) or not value:
        raise NotValid(f"{name} is missing or empty")
    if len(value) > 64 or not UID_FORM.match(value):
        raise NotValid(f"{name} is not a valid UID")


def check_dcmtk(path):
    """pydicom forgives a file that ends early or breaks its own transfer syntax; DCMTK is the second judge."""
    read = subprocess.run(["dcmdump", "-q", "+M", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if read.returncode != 0:
        raise NotValid("DCMTK cannot read it wholly")


def inspect(path):
    content = path.read_bytes()
    line = dict(path=str(path), size=len(content))
    try:
        if content[128:132] != b"DICM":
            raise NotValid("no file meta group (PS3.10)")
        try:
            meta, offset = split_dataset(path)
        except Exception as error:
            raise NotValid(f"the file meta group cannot be read: {type(error).__name__}") from error
        line["offset"] = offset
        line["sha256"] = hashlib.sha256(content[offset:]).hexdigest()
        line["transfer_syntax"] = str(meta.get("TransferSyntaxUID", ""))
        line["sop_class"] = str(meta.get("MediaStorageSOPClassUID", ""))
        line["sop_instance"] = str(meta.get("MediaStorageSOPInstanceUID", ""))
        check_uid("the transfer syntax of the file meta group", line["transfer_syntax"])
        if UID(line["sop_class"]).name == "Media Storage Directory Storage":
            raise NotValid("a DICOMDIR is not a storage instance")
        try:
            read = dcmread(path)
            vrs = {name: read.get_item(name).VR for name in NEEDED if name in read}
            parse_everything(read)
        except Exception as error:
            raise NotValid(f"pydicom cannot read it wholly: {type(error).__name__}") from error
        if any(element.tag.group in (0, 2) for element in read):
            raise NotValid("elements of a command set or a file meta group in the data set")
        check_dcmtk(path)
        for name in NEEDED:
            check_uid(name, read.get(name))
            if vrs[name] not in ("UI", None):
                raise NotValid(f"{name} has the VR {vrs[name]}")
        # Where the file meta group names another instance, a sender goes by the data set.
        line["sop_class"], line["sop_instance"] = str(read.SOPClassUID), str(read.SOPInstanceUID)
    except NotValid as reason:
        line["reason"] = str(reason)
    return line


def main():
    for root in sys.argv[1:]:
        for path in sorted(pathlib.Path(root).rglob("*")):
            if path.is_file():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    print(json.dumps(inspect(path)), flush=True)


main()
