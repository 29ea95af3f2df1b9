"""An archive made of pynetdicom that can be asked what it has: by storage commitment (PS3.4 J) and by C-FIND.

It keeps nothing but UIDs. Prints one JSON line when it listens and one for whatever happens: {"event": "stored" or
"forgotten", "instance": …}, {"event": "asked", "transaction": …, "instances": […]}, {"event": "reported", "status": …},
{"event": "queried", "instances": NUMBER}.
"""

import argparse
import ssl
import sys
import threading
import warnings

from common import nodelay, say, tls
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

warnings.simplefilter("ignore")
WELL_KNOWN = "1.2.840.10008.1.20.1.1"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aet", default="ARCHIVE")
    parser.add_argument("--forget", type=int, default=0, help="so many instances are answered with 0000 and dropped")
    parser.add_argument("--no-commitment", action="store_true", help="does not do storage commitment")
    parser.add_argument("--report", choices=["own", "other"], default="own", help="on which association it reports")
    parser.add_argument("--gateway", type=int, help="the port to which reports on other associations go")
    parser.add_argument("--report-plain", action="store_true", help="reports on other associations in the clear")
    parser.add_argument("--gateway-aet", default="WAYSTATION")
    parser.add_argument("--calling", help="the AE title by which it reports; its own otherwise")
    parser.add_argument("--invent", action="store_true", help="reports every instance under a transaction of its own")
    parser.add_argument("--lists", choices=["yes", "no"], default="yes", help="list of UID matching")
    parser.add_argument("--ca", help="with --cert and --key: TLS")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    return parser.parse_args()


def main():
    options = arguments()
    instances = {}
    # What was asked for on an association, until the answer is handed over, and until it has left.
    requests, leaving = {}, {}
    left_to_forget = options.forget

    def store(event):
        nonlocal left_to_forget
        data_set = event.dataset
        uid = str(data_set.SOPInstanceUID)
        if left_to_forget > 0:
            left_to_forget -= 1
            say(event="forgotten", instance=uid)
        else:
            instances[uid] = (str(data_set.StudyInstanceUID), str(data_set.SeriesInstanceUID))
            say(event="stored", instance=uid)
        return 0x0000

    def send(association, asked):
        information = Dataset()
        information.TransactionUID = "2.25.4711" if options.invent else asked.TransactionUID
        committed, failed = [], []
        for item in asked.ReferencedSOPSequence:
            told = Dataset()
            told.ReferencedSOPClassUID = item.ReferencedSOPClassUID
            told.ReferencedSOPInstanceUID = item.ReferencedSOPInstanceUID
            if item.ReferencedSOPInstanceUID in instances:
                committed.append(told)
            else:
                told.FailureReason = 0x0112
                failed.append(told)
        if committed:
            information.ReferencedSOPSequence = committed
        if failed:
            information.FailedSOPSequence = failed
        kind = 2 if failed else 1
        status, _ = association.send_n_event_report(information, kind, StorageCommitmentPushModel, WELL_KNOWN)
        say(event="reported", status=status.get("Status"))

    def report(own, asked):
        if options.report == "own":
            send(own, asked)
            return
        secure = options.ca and not options.report_plain
        ae = AE(ae_title=options.calling or options.aet)
        ae.add_requested_context(StorageCommitmentPushModel)
        association = ae.associate(
            "127.0.0.1",
            options.gateway,
            ae_title=options.gateway_aet,
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            tls_args=(tls(options, ssl.PROTOCOL_TLS_CLIENT), "127.0.0.1") if secure else None,
            evt_handlers=[(evt.EVT_CONN_OPEN, nodelay)],
        )
        if not association.is_established:
            say(event="reported", status=None)
            return
        send(association, asked)
        association.release()

    def action(event):
        asked = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in asked.ReferencedSOPSequence]
        say(event="asked", transaction=str(asked.TransactionUID), instances=uids)
        requests[event.assoc] = asked
        return 0x0000, None

    def answered(event):
        # pynetdicom says so before it hands over the one PDU of the answer.
        if type(event.message).__name__ == "N_ACTION_RSP" and event.assoc in requests:
            leaving[event.assoc] = requests.pop(event.assoc)

    def left(event):
        if event.assoc in leaving:
            arguments = (event.assoc, leaving.pop(event.assoc))
            threading.Thread(target=report, args=arguments, daemon=True).start()

    def find(event):
        asked = event.identifier
        uids = asked.SOPInstanceUID
        uids = [uids] if isinstance(uids, str) else list(uids)
        say(event="queried", instances=len(uids))
        if asked.QueryRetrieveLevel != "IMAGE" or (len(uids) > 1 and options.lists == "no"):
            yield 0xA900, None
            return
        for uid in uids:
            if instances.get(str(uid)) == (asked.StudyInstanceUID, asked.SeriesInstanceUID):
                found = Dataset()
                found.QueryRetrieveLevel = "IMAGE"
                found.SOPInstanceUID = uid
                found.StudyInstanceUID = asked.StudyInstanceUID
                found.SeriesInstanceUID = asked.SeriesInstanceUID
                yield 0xFF00, found

    _config.UNRESTRICTED_STORAGE_SERVICE = True
    ae = AE(ae_title=options.aet)
    ae.maximum_associations = 50
    ae.add_supported_context(Verification)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    if not options.no_commitment:
        ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_C_STORE, store),
        (evt.EVT_N_ACTION, action),
        (evt.EVT_DIMSE_SENT, answered),
        (evt.EVT_PDU_SENT, left),
        (evt.EVT_C_FIND, find),
        (evt.EVT_CONN_OPEN, nodelay),
    ]
    context = tls(options, ssl.PROTOCOL_TLS_SERVER) if options.ca else None
    ae.start_server(("127.0.0.1", options.port), block=False, ssl_context=context, evt_handlers=handlers)
    say(event="listening")
    for _ in sys.stdin:
        pass


main()
