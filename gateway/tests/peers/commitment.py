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
import warnings

from common import nodelay, say, tls
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
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

    # What is told is told when the answer has left: whoever reads it may make the next request at once, and pynetdicom does
    # not always cope with a request beside its own answer.
    told = []

    def answered(event):
        if type(event.message).__name__ == "N_EVENT_REPORT_RSP" and told:
            say(**told.pop(0))

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

    syntaxes = [ImplicitVRLittleEndian] if options.implicit else [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    if options.listen:
        listener = AE(ae_title=options.aet)
        listener.add_supported_context(StorageCommitmentPushModel, syntaxes, scu_role=False, scp_role=True)
        listener.start_server(
            ("127.0.0.1", options.listen),
            block=False,
            ssl_context=tls(options, ssl.PROTOCOL_TLS_SERVER) if options.listen_tls else None,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, report("listener")), (evt.EVT_DIMSE_SENT, answered), (evt.EVT_CONN_OPEN, nodelay)],
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
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, report("own")), (evt.EVT_DIMSE_SENT, answered), (evt.EVT_CONN_OPEN, nodelay)],
            )
            if not association.is_established:
                sys.exit("no association")
            say(event="associated", contexts=[context.abstract_syntax for context in association.accepted_contexts])
        elif command["do"] == "store":
            data_set = dcmread(command["path"])
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
            status, _ = association.send_n_action(information, action, StorageCommitmentPushModel, instance)
            say(event="asked", status=status.get("Status"), comment=str(status.get("ErrorComment", "")))
        elif command["do"] == "release":
            association.release()
            say(event="released")


main()
