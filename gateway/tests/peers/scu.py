"""A modality made of pynetdicom: sends the bytes of files as they are, each in its own transfer syntax.

Paths come as lines on standard input. Prints one JSON line for each file: `status` holds the number of the C-STORE
answer, or `failure` holds why there was none. A file without a usable file meta group is wrapped into one, so that its
bytes reach the peer all the same: as what pydicom takes it for, or as a CT image in Explicit VR Little Endian.

With --resend a file without the answer 0000 is sent again, as a modality would, until --deadline has passed.
"""

import argparse
import hashlib
import json
import os
import pathlib
import ssl
import sys
import tempfile
import time
import warnings

from common import nodelay
from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import ALL_TRANSFER_SYNTAXES, AE, AllStoragePresentationContexts, _config, build_context, evt
from pynetdicom.dsutils import split_dataset
from pynetdicom.pdu_primitives import MaximumLengthNotification, UserIdentityNegotiation
from pynetdicom.sop_class import Verification

warnings.simplefilter("ignore")
_config.STORE_SEND_CHUNKED_DATASET = True
# What is sent is what is in the file, also where it breaks a rule: the peer has to cope with it.
_config.ENFORCE_UID_CONFORMANCE = False
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
pydicom_config.settings.writing_validation_mode = pydicom_config.IGNORE

CONTEXTS_PER_ASSOCIATION = 128


class File:
    """A file to send: what its file meta says of it, and where its bytes are."""

    def __init__(self, path, scratch, trust_meta):
        self.path = path
        self.wrapped = False
        self.tries = 0
        self.source = pathlib.Path(path)
        try:
            meta, offset = split_dataset(self.source)
            self.read(meta)
        except Exception:
            self.wrap(scratch, self.guess(), 0)
            return
        if not trust_meta and self.contradicts(meta):
            self.wrap(scratch, meta, offset)

    def read(self, meta):
        self.sop_class = UID(meta.MediaStorageSOPClassUID)
        self.sop_instance = UID(meta.MediaStorageSOPInstanceUID)
        self.transfer_syntax = UID(meta.TransferSyntaxUID)
        if not (self.sop_class and self.sop_instance and self.transfer_syntax):
            raise ValueError("a UID of the file meta group is empty")

    def contradicts(self, meta):
        """Whether the data set names another instance than the file meta group; a sender goes by the data set."""
        try:
            tags = ["SOPClassUID", "SOPInstanceUID"]
            named = dcmread(self.source, stop_before_pixels=True, specific_tags=tags)
            changed = (named.SOPClassUID, named.SOPInstanceUID) != (self.sop_class, self.sop_instance)
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = named.SOPClassUID, named.SOPInstanceUID
            return changed
        except Exception:
            return False

    def guess(self):
        """A file meta group for a file without one."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        digest = hashlib.sha256(self.source.read_bytes()).hexdigest()
        meta.MediaStorageSOPInstanceUID = f"2.25.{int(digest[:30], 16)}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        try:
            read = dcmread(self.source, force=True, stop_before_pixels=True)
            meta.MediaStorageSOPClassUID = read.SOPClassUID
            meta.MediaStorageSOPInstanceUID = read.SOPInstanceUID
            implicit, little = read.original_encoding
            meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            )
        except Exception:
            pass
        return meta

    def wrap(self, scratch, meta, offset):
        """Puts the bytes from `offset` on behind another file meta group."""
        self.wrapped = True
        number, name = tempfile.mkstemp(dir=scratch)
        with os.fdopen(number, "wb") as out:
            out.write(bytes(128) + b"DICM")
            write_file_meta_info(out, meta, enforce_standard=False)
            out.write(self.source.read_bytes()[offset:])
        self.source = pathlib.Path(name)
        self.read(meta)

    @property
    def context(self):
        return (self.sop_class, self.transfer_syntax)

    def say(self, **outcome):
        line = dict(
            path=self.path,
            sop_class=str(self.sop_class),
            sop_instance=str(self.sop_instance),
            transfer_syntax=str(self.transfer_syntax),
            wrapped=self.wrapped,
            tries=self.tries,
        )
        print(json.dumps(line | outcome), flush=True)


class Peer:
    def __init__(self, options):
        self.options = options
        self.ae = AE(ae_title=options.aet)
        self.ae.acse_timeout = 30
        self.ae.dimse_timeout = options.timeout
        self.ae.network_timeout = options.timeout
        self.ae.connection_timeout = 10
        self.tls = None
        self.assoc = None
        if options.ca:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=options.ca)
            if options.cert:
                context.load_cert_chain(options.cert, options.key)
            self.tls = (context, "127.0.0.1")

    def associate(self, contexts):
        """An association with these contexts, or the reason why there is none."""

        assoc = self.ae.associate(
            "127.0.0.1",
            self.options.port,
            contexts=contexts,
            ae_title=self.options.aec,
            tls_args=self.tls,
            max_pdu=self.options.max_pdu,
            ext_neg=user_identity(self.options.user),
            evt_handlers=[(evt.EVT_CONN_OPEN, nodelay)],
        )
        if assoc.is_established:
            # pynetdicom 3.0.4 pauses its reactor while it waits for an answer, but goes by a flag that may be a pause
            # old: then the reactor takes the answer off the queue for a request, drops it, and nobody ever gets it.
            assoc._serve_request = lambda message, context_id: assoc.dimse.msg_queue.put((context_id, message))
            if self.options.send_pdu:
                for item in assoc.acceptor.user_information:
                    if isinstance(item, MaximumLengthNotification):
                        item.maximum_length_received = self.options.send_pdu
            self.assoc = assoc
            if self.options.user and not any(map(is_user_answer, assoc.acceptor.user_information)):
                self.end()
                return "nobody answered the user's name"
            return None
        if assoc.is_rejected:
            answer = assoc.acceptor.primitive
            return f"rejected: {answer.result_str}, {answer.source_str}, {answer.reason_str}"
        return "no association: aborted or not reachable"

    def end(self):
        if self.assoc is not None and self.assoc.is_established:
            self.assoc.release()
        self.assoc = None

    def store(self, file):
        """The answer's status and comment, or the reason why there is none."""
        try:
            answer = self.assoc.send_c_store(file.source)
        except Exception as error:
            return None, f"the sender refuses: {error}"
        if "Status" in answer:
            return answer.Status, answer.get("ErrorComment", "")
        return None, "the association ended before the answer"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aet", default="MODALITY")
    parser.add_argument("--aec", default="WAYSTATION")
    parser.add_argument("--ca", help="TLS with this CA; with --cert and --key a client certificate is shown")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--echo", action="store_true", help="C-ECHO instead of files")
    parser.add_argument("--trust-meta", action="store_true", help="name instances as the file meta group does")
    parser.add_argument("--max-pdu", type=int, default=131072, help="the maximum length that is announced")
    parser.add_argument("--send-pdu", type=int, help="the maximum length that is kept to in sending")
    parser.add_argument("--wide", action="store_true", help="128 contexts, each with every transfer syntax that there is")
    parser.add_argument("--user", help="the user's name, which must be answered")
    parser.add_argument("--resend", action="store_true")
    parser.add_argument("--deadline", type=float, default=600, help="seconds")
    parser.add_argument("--timeout", type=float, default=120, help="seconds to wait for one answer")
    parser.add_argument("--pace", type=float, default=0, help="seconds to rest after each instance")
    return parser.parse_args()


def in_batches(files):
    """The files by association: as few associations as the limit of 128 presentation contexts allows."""
    by_context = {}
    for file in files:
        by_context.setdefault(file.context, []).append(file)
    batch, contexts = [], 0
    for group in by_context.values():
        if contexts == CONTEXTS_PER_ASSOCIATION:
            yield batch
            batch, contexts = [], 0
        batch += group
        contexts += 1
    if batch:
        yield batch


def propose(files, wide):
    wanted = list(dict.fromkeys(file.context for file in files))
    if not wide:
        return [build_context(sop_class, transfer_syntax) for sop_class, transfer_syntax in wanted]
    classes = [sop_class for sop_class, _ in wanted]
    classes += [context.abstract_syntax for context in AllStoragePresentationContexts]
    return [build_context(uid, ALL_TRANSFER_SYNTAXES) for uid in list(dict.fromkeys(classes))[:CONTEXTS_PER_ASSOCIATION]]


def is_user_answer(item):
    return isinstance(item, UserIdentityNegotiation) and item.server_response is not None


def user_identity(name):
    if not name:
        return []
    item = UserIdentityNegotiation()
    item.user_identity_type = 1
    item.positive_response_requested = True
    item.primary_field = name.encode()
    return [item]


def send_batch(peer, files, options):
    """Sends each file once; yields those that have no answer 0000."""
    for file in files:
        file.tries += 1
        failure = None
        if peer.assoc is None or not peer.assoc.is_established:
            failure = peer.associate(propose(files, options.wide))
        status = None
        if failure is None:
            status, comment = peer.store(file)
            if status is None:
                failure = comment
        if failure is not None:
            file.say(failure=failure)
            if options.resend:
                time.sleep(0.02)
        else:
            file.say(status=status, comment=comment)
        if status != 0:
            yield file
        if options.pace:
            time.sleep(options.pace)
    peer.end()


def main():
    options = arguments()
    peer = Peer(options)
    if options.echo:
        failure = peer.associate([build_context(Verification)])
        answer = peer.assoc.send_c_echo() if failure is None else {}
        peer.end()
        print(json.dumps({"status": answer.Status} if "Status" in answer else {"failure": failure or "no answer"}))
        return
    ends = time.monotonic() + options.deadline
    with tempfile.TemporaryDirectory() as scratch:
        files = [File(line.rstrip("\n"), scratch, options.trust_meta) for line in sys.stdin]
        while files:
            files = [left for batch in in_batches(files) for left in send_batch(peer, batch, options)]
            if not options.resend or time.monotonic() > ends:
                break


main()
