"""A modality made of pynetdicom that asks for storage commitment (PS3.4 J).

Takes one JSON command for each line of its standard input and answers each with one JSON line:

    {"do": "associate"}                                   {"event": "associated"}
    {"do": "store", "path": FILE}                         {"event": "stored", "status": NUMBER, "class": …, "instance": …}
    {"do": "ask", "transaction": UID, "references": [[CLASS, INSTANCE], …], "action": 1}
                                                          {"event": "asked", "status": NUMBER, "comment": …}
    {"do": "release"}                                     {"event": "released"}

A report is told as {"event": "report", "where": "own" or "listener", "transaction": …, "type": …, "committed":
[[CLASS, INSTANCE], …], "failed": [[INSTANCE, REASON], …], "roles": …}, whenever it comes. With --listen it takes reports
on associations that the archive opens, as SCU, by role selection.
"""

import argparse
import json
import ssl
import sys
import threading
import time
import warnings

from common import nodelay, say, tls
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel

warnings.simplefilter("ignore")
WELL_KNOWN = "1.2.840.10008.1.20.1.1"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aet", required=True)
    parser.add_argument("--aec", required=True)
    parser.add_argument("--listen", type=int, help="take reports here, too")
    parser.add_argument("--listen-tls", action="store_true", help="over TLS")
    parser.add_argument("--answer", type=lambda text: int(text, 16), default=0, help="to every report")
    parser.add_argument("--implicit", action="store_true", help="propose Implicit VR Little Endian alone")
    parser.add_argument("--roles", action="store_true", help="propose the default roles in so many words")
    parser.add_argument("--max-pdu", type=int, default=16382, help="the maximum length that is announced")
    parser.add_argument("--ca", help="with --cert and --key: TLS")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    return parser.parse_args()


def main():
    options = arguments()

    told = []
    talking = threading.Lock()

    def report(where):
        def take(event):
            information = event.event_information
            pairs = lambda items: [[item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID] for item in items]
            failed = information.get("FailedSOPSequence", [])
            line = dict(
                event="report",
                where=where,
                transaction=information.TransactionUID,
                type=event.event_type,
                instance=event.request.AffectedSOPInstanceUID,
                calling=event.assoc.requestor.ae_title,
                committed=pairs(information.get("ReferencedSOPSequence", [])),
                failed=[[item.ReferencedSOPInstanceUID, item.FailureReason] for item in failed],
            )
            told.append(line)
            return options.answer, None

        return take

    # pynetdicom answers a report on a thread of its own, which says in the end that the association's reactor runs, even
    # where it stands still for a request of ours: that request would wait for ever. So one of the two is done at a time,
    # each with the reactor stopped, and a report is told when its answer has left.
    serve = Association._serve_request

    def answer_alone(association, message, context_id):
        if type(message).__name__ != "N_EVENT_REPORT":
            serve(association, message, context_id)
            return
        with talking:
            association._reactor_checkpoint.clear()
            while not association._is_paused:
                time.sleep(0.0001)
            serve(association, message, context_id)
            association._reactor_checkpoint.set()
            while told:
                say(**told.pop(0))

    Association._serve_request = answer_alone

    syntaxes = [ImplicitVRLittleEndian] if options.implicit else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    if options.listen:
        listener = AE(ae_title=options.aet)
        listener.add_supported_context(StorageCommitmentPushModel, syntaxes, scu_role=False, scp_role=True)
        listener.start_server(
            ("127.0.0.1", options.listen),
            block=False,
            ssl_context=tls(options, ssl.PROTOCOL_TLS_SERVER) if options.listen_tls else None,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, report("listener")), (evt.EVT_CONN_OPEN, nodelay)],
        )
    say(event="ready")

    ae = AE(ae_title=options.aet)
    association = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "associate":
            contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
            contexts.append(build_context(StorageCommitmentPushModel, syntaxes))
            association = ae.associate(
                "127.0.0.1",
                options.port,
                contexts,
                ae_title=options.aec,
                ext_neg=[build_role(StorageCommitmentPushModel, scu_role=True)] if options.roles else [],
                max_pdu=options.max_pdu,
                tls_args=(tls(options, ssl.PROTOCOL_TLS_CLIENT), "127.0.0.1") if options.ca else None,
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, report("own")), (evt.EVT_CONN_OPEN, nodelay)],
            )
            if not association.is_established:
                sys.exit("no association")
            say(event="associated", contexts=[context.abstract_syntax for context in association.accepted_contexts])
        elif command["do"] == "store":
            data_set = dcmread(command["path"])
            with talking:
                status = association.send_c_store(data_set)
            say(
                event="stored",
                status=status.get("Status"),
                reference=[data_set.SOPClassUID, data_set.SOPInstanceUID],
            )
        elif command["do"] == "ask":
            information = Dataset()
            information.TransactionUID = command["transaction"]
            information.ReferencedSOPSequence = []
            for sop_class, sop_instance in command["references"]:
                item = Dataset()
                item.ReferencedSOPClassUID = sop_class
                item.ReferencedSOPInstanceUID = sop_instance
                information.ReferencedSOPSequence.append(item)
            action = command.get("action", 1)
            instance = command.get("instance", WELL_KNOWN)
            with talking:
                status, _ = association.send_n_action(information, action, StorageCommitmentPushModel, instance)
            say(event="asked", status=status.get("Status"), comment=str(status.get("ErrorComment", "")))
        elif command["do"] == "release":
            with talking:
                association.release()
            say(event="released")


main()
