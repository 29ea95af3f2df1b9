"""An archive made of pynetdicom: accepts every storage SOP class and writes the data set exactly as it came.

Prints one JSON line when it listens and one for each instance, which also says how many were outstanding on its association
then; `NUMBER.ds` in the output folder holds the bytes of the data set, without a file meta group. Repeats each line of its standard input, and ends with it.
"""

import argparse
import collections
import hashlib
import pathlib
import ssl
import sys
import threading

from common import nodelay, say, tls
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import (
    ALL_TRANSFER_SYNTAXES,
    AE,
    AllStoragePresentationContexts,
    NonPatientObjectPresentationContexts,
    _config,
    evt,
)
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation
from pynetdicom.sop_class import Verification

# As the gateway prefers it, so that a sender which may convert makes the same of a file for both.
EXPLICIT_FIRST = sorted(ALL_TRANSFER_SYNTAXES, key=lambda uid: uid != ExplicitVRLittleEndian)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aet", default="ARCHIVE")
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--status", type=lambda text: int(text, 16), default=0, help="the answer to every C-STORE")
    parser.add_argument("--transfer-syntax", action="append", help="accept only these, repeatable; all if absent")
    parser.add_argument("--operations", type=int, help="so many C-STORE may be outstanding on an association")
    parser.add_argument("--ca", help="with --cert and --key: TLS with a required client certificate")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    return parser.parse_args()


def main():
    options = arguments()
    received = 0
    counting = threading.Lock()
    # Of each association: how many requests have come, and how many of them are answered.
    arriving = threading.Condition()
    may_go = False
    requests, answers = collections.Counter(), collections.Counter()

    def arrived(event):
        if type(event.message).__name__ == "C_STORE_RQ":
            with arriving:
                requests[event.assoc] += 1
                arriving.notify_all()

    def outstanding(association):
        """With --operations, the first one is not answered before the word "go", and the second one not before as many as
        there may be are outstanding."""
        with arriving:
            count = lambda: requests[association] - answers[association]
            if options.operations and answers[association] == 0:
                arriving.wait_for(lambda: may_go, timeout=60)
            if options.operations and answers[association] == 1:
                arriving.wait_for(lambda: count() >= options.operations, timeout=30)
            most = count()
            answers[association] += 1
            return most

    def grant(acse):
        asked, _ = acse.requestor.asynchronous_operations
        item = AsynchronousOperationsWindowNegotiation()
        item.maximum_number_operations_invoked = min(asked, options.operations)
        item.maximum_number_operations_performed = 1
        return item

    def store(event):
        nonlocal received
        request = event.request
        data_set = request.DataSet.getvalue()
        with counting:
            number = received
            received += 1
        path = options.folder / f"{number:06}.ds"
        path.write_bytes(data_set)
        say(
            event="stored",
            file=str(path),
            sop_class=str(request.AffectedSOPClassUID),
            sop_instance=str(request.AffectedSOPInstanceUID),
            transfer_syntax=str(event.context.transfer_syntax),
            sha256=hashlib.sha256(data_set).hexdigest(),
            length=len(data_set),
            outstanding=outstanding(event.assoc),
        )
        return options.status

    ae = AE(ae_title=options.aet)
    ae.maximum_pdu_size = 131072
    ae.maximum_associations = 50
    ae.add_supported_context(Verification)
    if options.transfer_syntax:
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, options.transfer_syntax)
    else:
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        # Stored by C-STORE too, but a service of its own to pynetdicom (PS3.4 Annex GG).
        for context in NonPatientObjectPresentationContexts:
            ae.add_supported_context(context.abstract_syntax, EXPLICIT_FIRST)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, nodelay), (evt.EVT_DIMSE_RECV, arrived)]
    if options.operations:
        # It grants one whatever it is asked for, although requests that come early wait for their turn in its queue.
        ACSE._check_async_ops = grant
    context = tls(options, ssl.PROTOCOL_TLS_SERVER) if options.ca else None
    ae.start_server(("127.0.0.1", options.port), block=False, ssl_context=context, evt_handlers=handlers)
    say(event="listening")
    for line in sys.stdin:
        with arriving:
            may_go |= line == "go\n"
            arriving.notify_all()
        say(event=line.rstrip("\n"))
    ae.shutdown()


main()
