// A modality made of dcmjs-dimse. Its client takes every request before it connects, sends one after the other in one
// association, and reads and writes each data set anew; so does what follows.
//
// Paths come as lines on standard input. Prints a JSON line for each file as soon as it is answered, {"path": …, "status":
// NUMBER}, or at once if the library cannot read it, {"path": …, "failure": …}. Of the association it tells {"event":
// "accepted", …}, or {"failure": …} if there is none or it ends early. With --echo C-ECHO comes first: {"event": "echo",
// "status": NUMBER}.
//
// With --commit UID it asks at the end for the commitment of all instances, {"event": "asked", "status": NUMBER}, and waits
// for the report: on the same association, or with --listen on one that the archive opens. A report is told as
// tests/peers/commitment.py tells it.

"use strict";

const fs = require("fs");
const { parseArgs } = require("util");
const dimse = require("dcmjs-dimse");
const { Client, Dataset, Implementation, Scp, Server, requests, responses } = dimse;
const { PresentationContext } = dimse.association;
const { PresentationContextResult, SopClass, Status, StorageClass, TransferSyntax, UserIdentityType } = dimse.constants;

const STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1";
const CONTEXTS_PER_ASSOCIATION = 128;
// How long it keeps an association open, in milliseconds, for a report that ends it.
const UNTIL_THE_REPORT = 600_000;

const { values: options } = parseArgs({
  options: {
    port: { type: "string" },
    aet: { type: "string" },
    aec: { type: "string" },
    // TLS, with a client certificate.
    ca: { type: "string" },
    cert: { type: "string" },
    key: { type: "string" },
    echo: { type: "boolean" },
    // The maximum length that is announced, and the one that is kept to in sending.
    "max-pdu": { type: "string" },
    "send-pdu": { type: "string" },
    // 128 presentation contexts, each with every transfer syntax that the library knows.
    wide: { type: "boolean" },
    "async-operations": { type: "string" },
    // The user's name, which must be answered.
    user: { type: "string" },
    commit: { type: "string" },
    listen: { type: "string" },
    "listen-tls": { type: "boolean" },
  },
});

// Standard output is for the JSON lines.
dimse.log.setLevel("silent");

function say(line) {
  fs.writeSync(1, `${JSON.stringify(line)}\n`);
}

function securityOptions() {
  const [ca, cert, key] = [options.ca, options.cert, options.key].map((path) => fs.readFileSync(path));
  return { ca, cert, key, requestCert: true, rejectUnauthorized: true };
}

// A sequence of one item is given as that item.
function items(sequence) {
  return sequence === undefined ? [] : Array.isArray(sequence) ? sequence : [sequence];
}

function tell(request, where) {
  const information = request.getDataset().getElements();
  const committed = items(information.ReferencedSOPSequence);
  const failed = items(information.FailedSOPSequence);
  say({
    event: "report",
    where,
    transaction: information.TransactionUID,
    type: request.getEventTypeId(),
    instance: request.getAffectedSopInstanceUid(),
    committed: committed.map((item) => [item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID]),
    failed: failed.map((item) => [item.ReferencedSOPInstanceUID, item.FailureReason]),
  });
}

function thanks(request) {
  const response = responses.NEventReportResponse.fromRequest(request);
  response.setStatus(Status.Success);
  return response;
}

// Takes a report as SCU of an association that the archive opens; the library grants the roles that are proposed.
class Listener extends Scp {
  associationRequested(association) {
    for (const { context } of association.getPresentationContexts()) {
      const known = [TransferSyntax.ExplicitVRLittleEndian, TransferSyntax.ImplicitVRLittleEndian];
      const chosen = context.getTransferSyntaxUids().find((uid) => known.includes(uid));
      const wanted = context.getAbstractSyntaxUid() === SopClass.StorageCommitmentPushModel && chosen;
      if (wanted) context.setResult(PresentationContextResult.Accept, chosen);
      else context.setResult(PresentationContextResult.RejectAbstractSyntaxNotSupported);
    }
    this.sendAssociationAccept();
  }

  nEventReportRequest(request, callback) {
    callback(thanks(request));
    tell(request, "listener");
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
    this.socket.end(() => process.exit());
  }
}

// Listens, and calls `then` when it does.
function listen(then) {
  const server = new Server(Listener);
  server.listen(
    { port: Number(options.listen), host: "127.0.0.1" },
    options["listen-tls"] ? { securityOptions: securityOptions() } : {}
  );
  server.server.on("listening", then);
}

function storeRequest(path) {
  try {
    const request = new requests.CStoreRequest(path);
    // Once it has connected, a file that it cannot read or write ends its association.
    Dataset.fromFile(path).getDenaturalizedDataset();
    let answered = false;
    request.on("response", (response) => {
      answered = true;
      say({ path, status: response.getStatus() });
    });
    // It goes on to the next one without a word if it cannot change the transfer syntax.
    request.on("done", () => {
      if (!answered) say({ path, failure: "the sender refuses: it cannot change the transfer syntax" });
    });
    return request;
  } catch (error) {
    say({ path, failure: `the sender refuses: ${error.message}` });
    return undefined;
  }
}

function commitmentRequest(stores) {
  const references = stores.map((request) => ({
    ReferencedSOPClassUID: request.getAffectedSopClassUid(),
    ReferencedSOPInstanceUID: request.getAffectedSopInstanceUid(),
  }));
  const request = new requests.NActionRequest(SopClass.StorageCommitmentPushModel, STORAGE_COMMITMENT_INSTANCE, 1);
  request.setDataset(new Dataset({ TransactionUID: options.commit, ReferencedSOPSequence: references }));
  request.on("response", (response) => say({ event: "asked", status: response.getStatus() }));
  return request;
}

function echoRequest() {
  const request = new requests.CEchoRequest();
  request.on("response", (response) => say({ event: "echo", status: response.getStatus() }));
  return request;
}

// Contexts beside those of the requests, which have one for each SOP class as long as the files are not compressed.
function addContexts(client) {
  const classes = new Set(client.requests.map((request) => request.getAffectedSopClassUid()));
  const known = Object.values(StorageClass);
  for (let number = classes.size; number < CONTEXTS_PER_ASSOCIATION; number++) {
    const context = new PresentationContext(1, known[number % known.length]);
    Object.values(TransferSyntax).forEach((uid) => context.addTransferSyntaxUid(uid));
    client.addAdditionalPresentationContext(context, true);
  }
}

function tellAccepted(association) {
  const contexts = association.getPresentationContexts().map(({ context }) => context);
  say({
    event: "accepted",
    proposed: contexts.length,
    accepted: contexts.filter((context) => context.getResult() === PresentationContextResult.Accept).length,
    "max-pdu": association.getMaxPduLength(),
    asynchronous: association.getNegotiateAsyncOps(),
  });
  if (options.user && !association.getNegotiateUserIdentityServerResponse()) throw new Error("nobody answered the user");
}

function main() {
  if (options["max-pdu"]) Implementation.setMaxPduLength(Number(options["max-pdu"]));
  const paths = fs.readFileSync(0, "utf8").split("\n").filter(Boolean);
  const stores = paths.map(storeRequest).filter(Boolean);
  const client = new Client();
  if (options.echo) client.addRequest(echoRequest());
  stores.forEach((request) => client.addRequest(request));
  if (options.commit) client.addRequest(commitmentRequest(stores));
  if (options.wide) addContexts(client);

  client.on("associationAccepted", (association) => {
    tellAccepted(association);
    if (options["send-pdu"]) association.setMaxPduLength(Number(options["send-pdu"]));
  });
  client.on("nEventReportRequest", (request, callback) => {
    callback(thanks(request));
    tell(request, "own");
    client.network.sendAssociationReleaseRequest();
  });
  client.on("associationRejected", (reject) => say({ failure: `rejected: ${JSON.stringify(reject)}` }));
  client.on("networkError", (error) => say({ failure: error.message }));
  // Its timers would go on.
  if (!options.listen) client.on("closed", () => process.exit());
  const operations = Number(options["async-operations"]);
  client.send("127.0.0.1", Number(options.port), options.aet, options.aec, {
    associationLingerTimeout: options.commit && !options.listen ? UNTIL_THE_REPORT : 0,
    asyncOps: operations ? { maxAsyncOpsInvoked: operations, maxAsyncOpsPerformed: operations } : undefined,
    userIdentity: options.user && {
      type: UserIdentityType.Username,
      positiveResponseRequested: true,
      primaryField: options.user,
    },
    securityOptions: options.ca && securityOptions(),
  });
}

if (options.listen) listen(main);
else main();
